/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _UXIVE_HELPERS_H
#define _UXIVE_HELPERS_H

struct device_node;
struct vm_area_struct;

void uxive_vma_set_device_pages(struct vm_area_struct *vma);
void uxive_of_node_put(struct device_node *node);

#endif /* _UXIVE_HELPERS_H */
