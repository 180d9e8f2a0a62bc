# SPDX-License-Identifier: GPL-2.0
ifneq ($(KERNELRELEASE),)
# Read by kbuild: as drivers/misc/uxive of a kernel tree, or out of tree with M=.

CONFIG_UXIVE ?= m
obj-$(CONFIG_UXIVE) += uxive.o
uxive-y := src/uxive_main.o src/kernel/helpers.o
uxive-$(CONFIG_TRACEPOINTS) += src/trace.o

# <trace/define_trace.h> includes trace.h once more.
CFLAGS_src/trace.o := -I$(src)/src

# Bindings that the kernel crate's own lack. A variable hands the path over,
# since a relative include! breaks with MO=.
uxive-bindings := $(obj)/src/bindings_generated.rs

# Types that the kernel crate has, with their anonymous parts. They are opaque
# here: their fields would bring more types.
uxive-foreign := '((file|inode)(_operations)?|bin_attribute|dentry|device(_node)?|eventfd_ctx|irq_(chip|domain)|msi_desc|tracepoint|user_namespace|vm_area_struct)(__bindgen_ty_.*)?'

# Flags of gcc that clang, by which bindgen reads, does not know. They are those of
# bindgen_skip_c_flags in the kernel's rust/Makefile that powerpc can have.
uxive-gcc-flags := -mrecord-mcount -mtraceback=no -mno-pointers-to-nested-functions \
	-mno-string -mmultiple -mno-strict-align -mstrict-align \
	-mstack-protector-guard% -mno-readonly-in-sdata -ffixed-r2 \
	-fconserve-stack -falign-jumps=% -falign-loops=% \
	-femit-struct-debug-baseonly -fno-ipa-cp-clone -fno-ipa-sra \
	-fno-partial-inlining -fno-reorder-blocks -fno-allow-store-data-races \
	-fasan-shadow-offset=% -fzero-call-used-regs=% -fno-stack-clash-protection \
	-fno-inline-functions-called-once -fsanitize=bounds-strict \
	-fstrict-flex-arrays=% -fmin-function-alignment=% -fzero-init-padding-bits=% \
	-fdiagnostics-show-context -fdiagnostics-show-context=% --param=% \
	--param asan-% -fno-isolate-erroneous-paths-dereference \
	-fpatchable-function-entry=% -mprofile-kernel

quiet_cmd_uxive_bindgen = BINDGEN $@
      cmd_uxive_bindgen = $(BINDGEN) $< --rust-target 1.85 --use-core \
		--ctypes-prefix ffi --no-layout-tests --no-debug '.*' \
		--no-doc-comments --blocklist-type $(uxive-foreign) \
		--opaque-type $(uxive-foreign) \
		--allowlist-function 'anon_inode_(create_)?getfile' \
		--allowlist-function '(xive_(native_.*|cleanup_irq_data)|is_xive_irq)' \
		--allowlist-function '(rust_do_trace_)?uxive_.*' \
		--allowlist-type '(irq_bypass_producer|xive_irq_data|uxive_(delivery|quiesce))' \
		--with-derive-default \
		--allowlist-var EI_ETYPE_TRUE \
		--allowlist-var 'OPAL_XIVE_(ANY_CHIP|EQ_ENABLED)' \
		--allowlist-var '__tracepoint_uxive_.*' \
		--allowlist-var __xive_enabled \
		--allowlist-var 'RUST_CONST_HELPER_.*' \
		--allowlist-var XIVE_INVALID_VP \
		--allowlist-var 'XIVE_(ESB|IRQ_FLAG)_.*' \
		-o $@ -- $(filter-out $(CC_FLAGS_LTO) $(uxive-gcc-flags),$(c_flags)) -w \
		--target=powerpc64le-linux-gnu -fno-builtin -D__BINDGEN__ -DMODULE

$(uxive-bindings): $(src)/src/bindings_helper.h FORCE
	$(call if_changed_dep,uxive_bindgen)

# Numbers and structures of the user interface. clang evaluates macros with
# arguments for them, which it does not with -include. <misc/ocxl.h> is the header
# for programs, not the kernel's own of that name.
uxive-uapi := $(obj)/src/uapi_generated.rs

quiet_cmd_uxive_uapi = BINDGEN $@
      cmd_uxive_uapi = $(BINDGEN) $< --rust-target 1.85 --use-core \
		--ctypes-prefix ffi --no-layout-tests --no-debug '.*' \
		--no-doc-comments --clang-macro-fallback \
		--clang-macro-fallback-build-dir $(obj)/src \
		--allowlist-type '(uxive|ocxl)_.*' \
		--allowlist-var '(UXIVE|OCXL)_.*' \
		--with-derive-custom-struct $(uxive-plain)=FromBytes,IntoBytes \
		-o $@ -- -nostdinc -I$(srctree)/include/uapi \
		$(filter -I%,$(LINUXINCLUDE)) -w \
		-D__SANE_USERSPACE_TYPES__ --target=powerpc64le-linux-gnu

# Those without a union.
uxive-plain := '(ocxl_ioctl_|uxive_(arm|export|event_|i|r|set|user|window)).*'

$(uxive-uapi): $(src)/include/uapi/misc/uxive.h $(srctree)/include/uapi/misc/ocxl.h FORCE
	$(call if_changed,uxive_uapi)

$(obj)/src/uxive_main.o: $(uxive-bindings) $(uxive-uapi)
targets += src/bindings_generated.rs src/uapi_generated.rs
clean-files += src/bindings_generated.rs src/uapi_generated.rs src/uxive-precompile.h
export UXIVE_BINDINGS := $(abspath $(uxive-bindings))
export UXIVE_UAPI := $(abspath $(uxive-uapi))

else
# For people. The driver for a kernel of one's own: make KDIR=/path/to/its/build
# All else happens in the testbed (tools/testbed), which needs no set-up.

testbed := tools/testbed/testbed

ifdef KDIR
modules clean:
	$(MAKE) -C $(KDIR) M=$(CURDIR) $@

modules_install: modules
	$(MAKE) -C $(KDIR) M=$(CURDIR) $@
else
help:
	@echo 'The driver on an emulated POWER9 (what is missing is set up first, as root'
	@echo 'or as an ordinary user; the kernel is kept in UXIVE_CACHE, ~/.cache/uxive):'
	@echo '  make demo             two processes ring each other, four share an accelerator'
	@echo '  make test             all tests; results also in build/test.json'
	@echo '    T='"'"'abi ring:test'"'"' C=debug   some suites, or one test of one, and configurations'
	@echo '  make check            in three minutes: lint of what changed, the quick half of the tests'
	@echo '  make bench            what operations cost, in instructions, beside ocxl'"'"'s C'
	@echo '                        code and others; also build/bench.json and two .svg;'
	@echo '                        a missed target is shown, and is no failure'
	@echo '  make bench PROFILE=op the functions that one operation spends them in'
	@echo '  make guests           a Linux guest of QEMU is interrupted, through its ivshmem;'
	@echo '                        builds one kernel more'
	@echo '  make run PROG=./prog [ARGS="..."]'
	@echo '                        a ppc64le program, static or with Debian'"'"'s libraries;'
	@echo '                        make turns any failure into its own status 2, while'
	@echo '                        tools/testbed/testbed run PROG ARGS returns the program'"'"'s'
	@echo '  make shell            a console in the machine, driver and programs at hand'
	@echo '    KERNEL=base|debug|bench CPUS=2 MACHINE=powernv9|powernv10 for these two and demo'
	@echo '    AFUS=32x63[,23x89]  their model accelerators: contexts x message slots; 0: none'
	@echo '  make build            builds all without running it'
	@echo '  make lint             rustfmt, clippy, rustdoc, checkpatch, shellcheck, Sphinx, warnings,'
	@echo '                        a test for every documented errno, a cause for each line of the log, plain sentences'
	@echo '  make kunit            the unit tests, by kunit.py of the kernel'
	@echo '  make kvm-patches      what KVM does without each of its patches, see'
	@echo '                        Documentation/driver-api/uxive-kvm.rst'
	@echo '  make series           the patches of Linux as series for mailing lists, in build/series'
	@echo '  make clean            removes build/'
	@echo '  make distclean        removes the cache too'
	@echo '    UXIVE_MIRROR=       another Debian mirror than the host uses'
	@echo '    UXIVE_KERNEL_SERIES=  another kernel than the one in tools/testbed/recorded.toml'
	@echo
	@echo 'The driver for a kernel of your own, configured with CONFIG_RUST:'
	@echo '  make KDIR=/lib/modules/$$(uname -r)/build [modules_install|clean]'
	@echo 'The driver as a part of a kernel, drivers/misc/uxive of its source:'
	@echo '  make in-tree KSRC=DIR'
	@echo
	@echo 'For programs and the administrator (the command is built by cargo):'
	@echo '  make install|uninstall [DESTDIR=] [PREFIX=/usr/local] [COMMAND=./uxive]'
	@echo '                        the command, headers, a pkg-config file, manual pages,'
	@echo '                        completion, rules for udev, sysusers and modprobe'
	@echo '  make headers_install [DESTDIR=] [PREFIX=/usr/local]'
	@echo '  make dist             the last commit as build/uxive-<version>.tar.gz'

# As they were given, for the testbed to read: make expands nothing in them.
export UXIVE_ARGS = $(value ARGS)
export UXIVE_KERNEL = $(KERNEL)
export UXIVE_CPUS = $(CPUS)
export UXIVE_MACHINE = $(MACHINE)
export UXIVE_AFUS = $(AFUS)
export UXIVE_PROFILE = $(PROFILE)

series:
	@python3 tools/testbed/series.py

bench build check demo guests kunit kvm-patches shell lint distclean:
	@$(testbed) $@

test:
	@$(testbed) test $(T) $(C:%=C=%)

run:
	@$(testbed) run '$(PROG)'

clean:
	rm -rf build

in-tree:
	@tools/install/in-tree '$(KSRC)'

dist headers_install install uninstall:
	@$(MAKE) --no-print-directory -f tools/install/Makefile $@

modules modules_install:
	@echo 'make $@ needs KDIR=, the build directory of the kernel that the driver is for:' >&2
	@echo '  make KDIR=/lib/modules/$$(uname -r)/build $@' >&2
	@false

.PHONY: bench build check demo dist guests headers_install in-tree install kunit kvm-patches lint run series \
	shell test uninstall
endif

.PHONY: clean distclean help modules modules_install
endif
