// SPDX-License-Identifier: GPL-2.0
/*
 * What the kernel offers only as an inline function or a macro, which Rust
 * cannot call.
 */
#include <linux/mm.h>
#include <linux/of.h>

#include "helpers.h"

/*
 * Marks @vma, which is being set up by mmap(), as one of device pages without
 * a struct page: not grown by mremap(), not dumped, not cached.
 */
void uxive_vma_set_device_pages(struct vm_area_struct *vma)
{
	vm_flags_set(vma, VM_PFNMAP | VM_IO | VM_DONTEXPAND | VM_DONTDUMP);
	vma->vm_page_prot = pgprot_noncached(vma->vm_page_prot);
}

/* Nothing to call where device trees do not change. */
void uxive_of_node_put(struct device_node *node)
{
	of_node_put(node);
}
