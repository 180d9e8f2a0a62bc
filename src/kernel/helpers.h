/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _UXIVE_HELPERS_H
#define _UXIVE_HELPERS_H

struct vm_area_struct;

void uxive_vma_set_device_pages(struct vm_area_struct *vma);

#endif /* _UXIVE_HELPERS_H */
