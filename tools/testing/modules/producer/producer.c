// SPDX-License-Identifier: GPL-2.0
/*
 * producer.ko - an interrupt of XIVE that KVM can pass through to a guest. Each
 * open file of /dev/producer has one, which no driver handles.
 *
 * Written commands: "produce FD" has irqbypass connect the interrupt to who
 * consumes that eventfd, now or later; "end" undoes that; "ring" raises the
 * interrupt. A read returns a digit: P (2) and Q (1).
 */
#include <linux/eventfd.h>
#include <linux/irq.h>
#include <linux/irqbypass.h>
#include <linux/irqdomain.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <asm/xive.h>
#include <asm/xive-regs.h>

struct producer {
	struct mutex lock;	/* of the connection */
	struct irq_bypass_producer bypass;
	struct eventfd_ctx *eventfd;
	struct xive_irq_data *data;
	unsigned int virq;
	u32 lisn;
};

static int producer_open(struct inode *inode, struct file *file)
{
	struct producer *this = kzalloc_obj(*this);

	if (!this)
		return -ENOMEM;
	this->lisn = xive_native_alloc_irq();
	if (!this->lisn)
		goto free;
	/* Nothing is stacked upon XIVE's own chip. */
	this->virq = irq_create_mapping(NULL, this->lisn);
	if (!this->virq)
		goto free_lisn;
	this->data = irq_get_chip_data(this->virq);
	mutex_init(&this->lock);
	file->private_data = this;
	return 0;

free_lisn:
	xive_native_free_irq(this->lisn);
free:
	kfree(this);
	return -ENOSPC;
}

static void producer_end(struct producer *this)
{
	if (!this->eventfd)
		return;
	irq_bypass_unregister_producer(&this->bypass);
	eventfd_ctx_put(this->eventfd);
	this->eventfd = NULL;
}

static int producer_produce(struct producer *this, int fd)
{
	struct eventfd_ctx *eventfd;
	int error;

	if (this->eventfd)
		return -EBUSY;
	eventfd = eventfd_ctx_fdget(fd);
	if (IS_ERR(eventfd))
		return PTR_ERR(eventfd);
	error = irq_bypass_register_producer(&this->bypass, eventfd, this->virq);
	if (error)
		eventfd_ctx_put(eventfd);
	else
		this->eventfd = eventfd;
	return error;
}

static ssize_t producer_write(struct file *file, const char __user *from, size_t size, loff_t *at)
{
	struct producer *this = file->private_data;
	char command[32] = "";
	int error = 0, fd;

	if (size >= sizeof(command))
		return -EINVAL;
	if (copy_from_user(command, from, size))
		return -EFAULT;
	guard(mutex)(&this->lock);
	if (sscanf(command, "produce %d", &fd) == 1)
		error = producer_produce(this, fd);
	else if (!strcmp(command, "end"))
		producer_end(this);
	else if (!strcmp(command, "ring"))
		out_be64(this->data->trig_mmio, 0);
	else
		error = -EINVAL;
	return error ?: size;
}

static ssize_t producer_read(struct file *file, char __user *to, size_t size, loff_t *at)
{
	struct producer *this = file->private_data;
	char pq = '0' + (in_be64(this->data->eoi_mmio + XIVE_ESB_GET) & 3);

	if (!size)
		return 0;
	return copy_to_user(to, &pq, 1) ? -EFAULT : 1;
}

static int producer_release(struct inode *inode, struct file *file)
{
	struct producer *this = file->private_data;

	producer_end(this);
	irq_dispose_mapping(this->virq);
	xive_native_free_irq(this->lisn);
	kfree(this);
	return 0;
}

static const struct file_operations operations = {
	.owner = THIS_MODULE,
	.open = producer_open,
	.read = producer_read,
	.write = producer_write,
	.release = producer_release,
};

static struct miscdevice device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "producer",
	.fops = &operations,
};
module_misc_device(device);

MODULE_DESCRIPTION("Interrupts of XIVE for KVM to pass through to guests");
MODULE_LICENSE("GPL");
