# SPDX-License-Identifier: GPL-2.0 OR MIT
#
# Completes the arguments of the command uxive in fish.

set -l commands info list ring bench help

complete -c uxive -f
complete -c uxive -n "not __fish_seen_subcommand_from $commands" -a info -d "tell of the driver and its limits"
complete -c uxive -n "not __fish_seen_subcommand_from $commands" -a list -d "list the contexts of all processes"
complete -c uxive -n "not __fish_seen_subcommand_from $commands" -a ring -d "ring a doorbell of another program"
complete -c uxive -n "not __fish_seen_subcommand_from $commands" -a bench -d "measure how long a ring takes"
complete -c uxive -n "not __fish_seen_subcommand_from $commands" -a help -d "describe a command"
complete -c uxive -n "not __fish_seen_subcommand_from $commands" -s V -l version -d "tell its version"
complete -c uxive -s h -l help -d "describe it"
complete -c uxive -n "__fish_seen_subcommand_from info list" -l json -d "print JSON"
complete -c uxive -n "__fish_seen_subcommand_from ring" -l fd -x -d "the export is this open file"
complete -c uxive -n "__fish_seen_subcommand_from ring" -l socket -r -F -d "be sent the export by this socket"
complete -c uxive -n "__fish_seen_subcommand_from ring" -l index -x -d "which doorbell of the export"
complete -c uxive -n "__fish_seen_subcommand_from ring" -l times -x -d "how often"
complete -c uxive -n "__fish_seen_subcommand_from bench" -l rings -x -d "how many rings"
complete -c uxive -n "__fish_seen_subcommand_from help" -a "info list ring bench"
