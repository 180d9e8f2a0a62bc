# SPDX-License-Identifier: GPL-2.0
ifneq ($(KERNELRELEASE),)
# Read by kbuild: as drivers/misc/uxive of a kernel tree, or out of tree with M=.

CONFIG_UXIVE ?= m
obj-$(CONFIG_UXIVE) += uxive.o
uxive-y := src/uxive_main.o src/kernel/helpers.o

# The bindings of what the kernel crate's own do not cover. The path is handed
# over by a variable since a relative include! breaks with MO=.
uxive-bindings := $(obj)/src/kernel/bindings_generated.rs

quiet_cmd_uxive_bindgen = BINDGEN $@
      cmd_uxive_bindgen = $(BINDGEN) $< --rust-target 1.85 --use-core \
		--ctypes-prefix ffi --no-layout-tests --no-debug '.*' \
		--no-doc-comments --blocklist-type '(file|inode)(_operations)?' \
		--blocklist-type vm_area_struct \
		--allowlist-function anon_inode_create_getfile \
		--allowlist-function 'xive_native_(alloc_irq_on_chip|free_irq)' \
		--allowlist-function 'uxive_.*' \
		--allowlist-type xive_irq_data \
		--allowlist-var OPAL_XIVE_ANY_CHIP \
		--allowlist-var __xive_enabled \
		-o $@ -- $(filter-out $(CC_FLAGS_LTO),$(c_flags)) -w \
		--target=powerpc64le-linux-gnu -fno-builtin -D__BINDGEN__ -DMODULE

$(uxive-bindings): $(src)/src/kernel/bindings_helper.h FORCE
	$(call if_changed_dep,uxive_bindgen)

$(obj)/src/uxive_main.o: $(uxive-bindings)
targets += src/kernel/bindings_generated.rs
clean-files += src/kernel/bindings_generated.rs
export UXIVE_BINDINGS := $(abspath $(uxive-bindings))

else
endif
