# SPDX-License-Identifier: GPL-2.0 OR MIT
# shellcheck shell=bash
#
# Completes the arguments of the command uxive in bash.

_uxive() {
	local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} words=
	COMPREPLY=()
	case $before in
	--socket)
		compopt -o filenames 2>/dev/null
		mapfile -t COMPREPLY < <(compgen -f -- "$word")
		return
		;;
	--fd | --index | --times | --rings) return ;;
	esac
	if [ "$COMP_CWORD" = 1 ]; then
		words="info list ring bench help -h --help -V --version"
	else
		case ${COMP_WORDS[1]} in
		info | list) words="--json -h --help" ;;
		ring) words="--fd --socket --index --times -h --help" ;;
		bench) words="--rings -h --help" ;;
		help) [ "$COMP_CWORD" != 2 ] || words="info list ring bench" ;;
		esac
	fi
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}
complete -F _uxive uxive
