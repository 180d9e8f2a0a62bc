// SPDX-License-Identifier: GPL-2.0
/*
 * Promise: a policy of SELinux decides, by the classes, labels and permissions that the
 * administrator's guide lists, which program opens a node, makes a range or an export,
 * and uses one that it was given. Each rule of the guide's policy is needed.
 *
 * For a machine that is booted with lsm=selinux and has the policies that the testbed
 * makes of tools/testing/selinux: all rules, and for each rule or permission a policy
 * that lacks that one only.
 */
#include "uxive_afu.h"
#include "uxive_fixture.h"

#include <sys/mount.h>
#include <sys/xattr.h>

#define POLICIES	"/policies/"
#define SELINUXFS	"/sys/fs/selinux/"
#define LABEL		"security.selinux"
#define DOMAIN		"user_u:base_r:"
#define OBJECT		"user_u:object_r:"

#define SLOTS_OF_RANGE	4
/* An ioctl that no file of the driver has. */
#define NO_IOCTL	_IO(UXIVE_MAGIC, 0x7f)

/* The domains of the policy: they make, receive, and have rules that know of neither. */
#define OWNER		"owner_t"
#define RECEIVER	"receiver_t"
#define UNAWARE		"unaware_t"

/* The policy that is loaded, which all tests know. */
static char *loaded;

__attribute__((constructor)) static void loaded_init(void)
{
	loaded = shared_memory(PATH_MAX);
}

/* Loads a policy in place of the one that there is. 0 or a negative errno. */
static int policy_load(const char *name)
{
	static char policy[1 << 20], path[PATH_MAX];
	ssize_t size;
	int fd, ret = 0;

	/* It takes seconds. */
	if (!strcmp(loaded, name))
		return 0;
	snprintf(path, sizeof(path), POLICIES "%s", name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	size = read(fd, policy, sizeof(policy));
	close(fd);
	if (size <= 0)
		return -ENOENT;
	fd = open(SELINUXFS "load", O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, policy, size) != size)
		ret = -errno;
	close(fd);
	if (!ret)
		snprintf(loaded, PATH_MAX, "%s", name);
	return ret;
}

/* Loads that which lacks a rule. */
static int policy_without(const char *rule)
{
	return policy_load(path_of("without/%s", rule));
}

/* As restorecon does it, which has the label from the file contexts. */
static int label_as(const char *node, const char *type)
{
	const char *label = path_of(OBJECT "%s", type);

	return setxattr(node, LABEL, label, strlen(label) + 1, 0) ? -errno : 0;
}

static int node_label(const char *type)
{
	return label_as(UXIVE_DEV, type);
}

/* "" if it may not be told. */
static void label_of(int fd, char label[64])
{
	ssize_t size = fgetxattr(fd, LABEL, label, 63);

	label[size < 0 ? 0 : size] = '\0';
}

/* Enters a domain, which a process does not leave again. */
static void become(const char *domain)
{
	char label[64];

	snprintf(label, sizeof(label), DOMAIN "%s", domain);
	if (file_write("/proc/self/attr/current", label) ||
	    strcmp(file_line("/proc/self/attr/current"), label))
		_exit(1);
}

/* The result of @act in a process of its own in a domain. */
static int in_domain(const char *domain, int (*act)(void *arg), void *arg)
{
	int *result = shared_memory(sizeof(*result)), ret;
	pid_t pid = fork();

	if (!pid) {
		become(domain);
		*result = act(arg);
		_exit(0);
	}
	ret = child_status(pid) ? -ESRCH : *result;
	munmap(result, sizeof(*result));
	return ret;
}

/* All that programs of two domains do with the driver's files. */

enum step {
	OPEN, STAT, ALLOC, MAP,
	RANGE, RANGE_STAT, RANGE_ALLOC, RANGE_READ, RANGE_MAP,
	EXPORT, EXPORT_STAT,
	RECEIVE, RECEIVED_STAT, RECEIVED_INFO, RECEIVED_OTHER, RECEIVED_MAP, RECEIVED_RING,
	STEPS
};

static const char * const step_names[STEPS] = {
	[OPEN] = "open",
	[STAT] = "stat",
	[ALLOC] = "alloc",
	[MAP] = "map",
	[RANGE] = "range",
	[RANGE_STAT] = "range_stat",
	[RANGE_ALLOC] = "range_alloc",
	[RANGE_READ] = "range_read",
	[RANGE_MAP] = "range_map",
	[EXPORT] = "export",
	[EXPORT_STAT] = "export_stat",
	[RECEIVE] = "receive",
	[RECEIVED_STAT] = "received_stat",
	[RECEIVED_INFO] = "received_info",
	[RECEIVED_OTHER] = "received_other",
	[RECEIVED_MAP] = "received_map",
	[RECEIVED_RING] = "received_ring",
};

/* Each step needs another one before it. */
static const enum step needed[STEPS] = {
	[RANGE_STAT] = RANGE, [RANGE_ALLOC] = RANGE, [RANGE_READ] = RANGE, [RANGE_MAP] = RANGE,
	[EXPORT_STAT] = EXPORT, [RECEIVE] = EXPORT, [RECEIVED_STAT] = RECEIVE,
	[RECEIVED_INFO] = RECEIVE, [RECEIVED_OTHER] = RECEIVE, [RECEIVED_MAP] = RECEIVE,
	[RECEIVED_RING] = RECEIVED_MAP,
};

#define NOT_REACHED	1

struct scene {
	int result[STEPS];
	char range_label[64], export_label[64];
};

static int stat_of(int fd)
{
	struct stat status;

	return fstat(fd, &status) ? -errno : 0;
}

/* The maker's part. It stays until the receiver has closed its end. */
static void own(const char *domain, int sock, int efd, struct scene *scene)
{
	struct uxive_event event;
	int *result = scene->result, fd, range, export;
	__u64 offset = 0;
	char byte;

	become(domain);
	fd = ux_open();
	result[OPEN] = fd < 0 ? fd : 0;
	if (fd < 0)
		return;

	result[STAT] = stat_of(fd);
	result[ALLOC] = ux_alloc(fd, &offset) ?: ux_bind(fd, offset, efd);
	result[MAP] = try_map(fd, IRQ_BASE, STRIDE, PROT_WRITE, MAP_SHARED);

	range = ux_range(fd, SLOTS_OF_RANGE);
	result[RANGE] = range < 0 ? range : 0;
	if (range >= 0) {
		label_of(range, scene->range_label);
		result[RANGE_STAT] = stat_of(range);
		result[RANGE_ALLOC] = ux_fill(range, SLOTS_OF_RANGE);
		result[RANGE_READ] = read_now(range, &event, sizeof(event));
		result[RANGE_MAP] = try_map(range, IRQ_BASE, STRIDE, PROT_WRITE, MAP_SHARED);
	}

	export = ux_export(fd, 0, 1, NULL);
	result[EXPORT] = export < 0 ? export : 0;
	if (export >= 0) {
		label_of(export, scene->export_label);
		result[EXPORT_STAT] = stat_of(export);
		if (!fd_send(sock, export) || read(sock, &byte, 1))
			_exit(1);
	}
}

static void receive(const char *domain, int sock, int efd, struct scene *scene)
{
	struct uxive_export_info info;
	int *result = scene->result, fd;
	void *page;

	become(domain);
	catch_touches();
	fd = fd_receive(sock);
	if (scene->result[EXPORT])
		return;
	/* The kernel leaves it out of the message. */
	result[RECEIVE] = fd < 0 ? -EACCES : 0;
	if (fd < 0)
		return;

	result[RECEIVED_STAT] = stat_of(fd);
	result[RECEIVED_INFO] = ux_export_info(fd, &info);
	result[RECEIVED_OTHER] = ux_ioctl(fd, NO_IOCTL, NULL);
	page = ux_map(fd, 0, STRIDE);
	result[RECEIVED_MAP] = page == MAP_FAILED ? -errno : 0;
	if (page != MAP_FAILED)
		result[RECEIVED_RING] = touch(page) || event_wait(efd) != 1 ? -EIO : 0;
}

/* Returns whether both came to their ends. */
static bool play(struct scene *scene, const char *owner, const char *receiver)
{
	struct scene *shared = shared_memory(sizeof(*shared));
	int sock[2], efd = event_new();
	pid_t pid[2];
	bool ended;

	for (int step = 0; step < STEPS; step++)
		shared->result[step] = NOT_REACHED;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sock))
		abort();
	for (int i = 0; i < 2; i++) {
		pid[i] = fork();
		if (pid[i])
			continue;
		close(sock[!i]);
		(i ? receive : own)(i ? receiver : owner, sock[i], efd, shared);
		_exit(0);
	}
	close(sock[0]);
	close(sock[1]);
	ended = !child_status(pid[0]) && !child_status(pid[1]);
	close(efd);
	*scene = *shared;
	munmap(shared, sizeof(*shared));
	return ended;
}

/* The results if these steps are denied, each a bit. */
static void expected(int result[STEPS], unsigned long denied, bool other_ioctls)
{
	for (int step = 0; step < STEPS; step++) {
		if (step && result[needed[step]])
			result[step] = NOT_REACHED;
		else if (denied & 1UL << step)
			result[step] = -EACCES;
		else if (step == RANGE_READ)
			result[step] = -EAGAIN;
		else if (step == RECEIVED_OTHER)
			result[step] = other_ioctls ? -ENOTTY : -EACCES;
		else
			result[step] = 0;
	}
}

/* How many steps of a scene ended otherwise than expected; they are told. */
static int differences(const struct scene *scene, unsigned long denied, bool other_ioctls)
{
	int wanted[STEPS], found = 0;

	expected(wanted, denied, other_ioctls);
	for (int step = 0; step < STEPS; step++) {
		if (scene->result[step] == wanted[step])
			continue;
		ksft_print_msg("%s: %d, not %d\n", step_names[step], scene->result[step],
			       wanted[step]);
		found++;
	}
	return found;
}

/* The steps that end with EACCES without a rule or a permission. */

#define STEP(name)	(1UL << (name))
#define LIMITED_IOCTLS	"allowxperm.receiver_t.uxive_doorbell_t.anon_inode.ioctl.0xca4d"

static const struct rule {
	const char *name;
	unsigned long denied;
} rules[] = {
	{ "type_transition.owner_t.owner_t.anon_inode.uxive_range_t.uxive-range", STEP(RANGE) },
	{ "type_transition.owner_t.owner_t.anon_inode.uxive_doorbell_t.uxive-doorbell",
	  STEP(EXPORT) },
	{ "owner_t.uxive_device_t.chr_file.open", STEP(OPEN) },
	{ "owner_t.uxive_device_t.chr_file.read", STEP(OPEN) },
	{ "owner_t.uxive_device_t.chr_file.write", STEP(OPEN) },
	{ "owner_t.uxive_device_t.chr_file.ioctl", STEP(ALLOC) | STEP(RANGE) | STEP(EXPORT) },
	{ "owner_t.uxive_device_t.chr_file.map", STEP(MAP) },
	{ "owner_t.uxive_device_t.chr_file.getattr", STEP(STAT) },
	{ "owner_t.uxive_range_t.anon_inode.create", STEP(RANGE) },
	{ "owner_t.uxive_range_t.anon_inode.read", STEP(RANGE_READ) | STEP(RANGE_MAP) },
	{ "owner_t.uxive_range_t.anon_inode.write", STEP(RANGE_MAP) },
	{ "owner_t.uxive_range_t.anon_inode.ioctl", STEP(RANGE_ALLOC) },
	{ "owner_t.uxive_range_t.anon_inode.map", STEP(RANGE_MAP) },
	{ "owner_t.uxive_range_t.anon_inode.getattr", STEP(RANGE_STAT) },
	{ "owner_t.uxive_doorbell_t.anon_inode.create", STEP(EXPORT) },
	{ "owner_t.uxive_doorbell_t.anon_inode.getattr", STEP(EXPORT_STAT) },
	{ "receiver_t.owner_t.fd.use", STEP(RECEIVE) },
	{ "receiver_t.uxive_doorbell_t.anon_inode.read", STEP(RECEIVE) },
	{ "receiver_t.uxive_doorbell_t.anon_inode.write", STEP(RECEIVE) },
	{ "receiver_t.uxive_doorbell_t.anon_inode.ioctl", STEP(RECEIVED_INFO) },
	{ "receiver_t.uxive_doorbell_t.anon_inode.map", STEP(RECEIVED_MAP) },
	{ "receiver_t.uxive_doorbell_t.anon_inode.getattr", STEP(RECEIVED_STAT) },
	/* It denies all other ioctls, so that nothing is denied without it. */
	{ LIMITED_IOCTLS, 0 },
	{ "unaware_t.self.anon_inode.create", STEP(RANGE) | STEP(EXPORT) },
	{ "unaware_t.self.anon_inode.read", STEP(RANGE_READ) | STEP(RANGE_MAP) | STEP(RECEIVE) },
	{ "unaware_t.self.anon_inode.write", STEP(RANGE_MAP) | STEP(RECEIVE) },
	{ "unaware_t.self.anon_inode.ioctl",
	  STEP(RANGE_ALLOC) | STEP(RECEIVED_INFO) | STEP(RECEIVED_OTHER) },
	{ "unaware_t.self.anon_inode.map", STEP(RANGE_MAP) | STEP(RECEIVED_MAP) },
	{ "unaware_t.self.anon_inode.getattr",
	  STEP(RANGE_STAT) | STEP(EXPORT_STAT) | STEP(RECEIVED_STAT) },
};

/* NULL if there is none. */
static const struct rule *rule_called(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(rules); i++)
		if (!strcmp(rules[i].name, name))
			return &rules[i];
	return NULL;
}

FIXTURE(selinux) {
	struct use before;
	struct scene scene;
};

FIXTURE_SETUP(selinux)
{
	if (access(POLICIES "whole", R_OK))
		SKIP(return, "there are no policies of SELinux for this machine");
	if (access(SELINUXFS "load", F_OK))
		ASSERT_EQ(0, mount("none", SELINUXFS, "selinuxfs", 0, NULL));
	ASSERT_EQ(0, policy_load("whole"));
	ASSERT_EQ(0, node_label("uxive_device_t"));
	self->before = use_now();
	ASSERT_EQ(0, file_write(SELINUXFS "enforce", "1"));
}

FIXTURE_TEARDOWN(selinux)
{
	EXPECT_EQ(0, file_write(SELINUXFS "enforce", "0"));
	EXPECT_EQ(0, node_label("uxive_device_t"));
	EXPECT_ALL_RETURNED(self->before);
	EXPECT_TRUE(becomes(all_exports(), 0));
}

TEST_F(selinux, programs_do_all_that_the_policy_of_the_guide_allows)
{
	ASSERT_TRUE(play(&self->scene, OWNER, RECEIVER));
	EXPECT_EQ(0, differences(&self->scene, 0, false));
	EXPECT_STREQ(OBJECT "uxive_range_t", self->scene.range_label);
	EXPECT_STREQ(OBJECT "uxive_doorbell_t", self->scene.export_label);
}

/* Each policy that lacks one rule denies what the table says, and nothing else. */
TEST_F(selinux, each_rule_of_the_policy_is_needed)
{
	DIR *directory = opendir(POLICIES "without");
	struct dirent *entry;
	size_t count = 0;

	ASSERT_TRUE(directory);
	while ((entry = readdir(directory))) {
		const struct rule *rule = rule_called(entry->d_name);
		bool unaware = !strncmp(entry->d_name, UNAWARE, strlen(UNAWARE));

		if (entry->d_name[0] == '.')
			continue;
		ASSERT_TRUE(rule) TH_LOG("no step needs %s", entry->d_name);
		ASSERT_EQ(0, policy_without(rule->name));
		ASSERT_TRUE(play(&self->scene, unaware ? UNAWARE : OWNER,
				 unaware ? UNAWARE : RECEIVER)) TH_LOG("%s", rule->name);
		EXPECT_EQ(0, differences(&self->scene, rule->denied,
					 unaware || !rule->denied)) TH_LOG("%s", rule->name);
		count++;
		progress();
	}
	closedir(directory);
	EXPECT_EQ(ARRAY_SIZE(rules), count);
}

/* So it is SELinux that denies, and only if it is to. */
TEST_F(selinux, nothing_is_denied_where_it_only_watches)
{
	static const char * const needs[] = {
		"owner_t.uxive_device_t.chr_file.open",
		"owner_t.uxive_range_t.anon_inode.create",
		"receiver_t.uxive_doorbell_t.anon_inode.read",
	};

	ASSERT_EQ(0, file_write(SELINUXFS "enforce", "0"));
	for (size_t i = 0; i < ARRAY_SIZE(needs); i++) {
		ASSERT_EQ(0, policy_without(needs[i]));
		ASSERT_TRUE(play(&self->scene, OWNER, RECEIVER));
		EXPECT_EQ(0, differences(&self->scene, 0, true)) TH_LOG("%s", needs[i]);
		progress();
	}
}

static int try_open(void *arg)
{
	int fd = open(UXIVE_DEV, *(int *)arg | O_CLOEXEC);

	return fd < 0 ? -errno : close(fd);
}

/* The same program with the same rights of its user, by the label of the node alone. */
TEST_F(selinux, a_node_is_opened_by_its_type_only)
{
	static const char * const permissions[] = {
		"owner_t.uxive_device_t.chr_file.open",
		"owner_t.uxive_device_t.chr_file.read",
		"owner_t.uxive_device_t.chr_file.write",
	};
	int both = O_RDWR, reading = O_RDONLY;

	EXPECT_EQ(0, in_domain(OWNER, try_open, &both));
	/* That type is allowed to it as another class only. */
	ASSERT_EQ(0, node_label("uxive_range_t"));
	EXPECT_ERRNO(open, EACCES, in_domain(OWNER, try_open, &both));
	ASSERT_EQ(0, node_label("uxive_device_t"));
	EXPECT_EQ(0, in_domain(OWNER, try_open, &both));
	EXPECT_ERRNO(open, EACCES, in_domain(RECEIVER, try_open, &both));

	for (size_t i = 0; i < ARRAY_SIZE(permissions); i++) {
		ASSERT_EQ(0, policy_without(permissions[i]));
		EXPECT_ERRNO(open, EACCES, in_domain(OWNER, try_open, &both));
		EXPECT_EQ(strstr(permissions[i], "write") ? 0 : -EACCES,
			  in_domain(OWNER, try_open, &reading));
	}
}

/* Opens the node of an AFU, attaches, and maps its MMIO. 0 or the error of the first. */
static int use_afu(void *arg)
{
	struct afu_context context;
	bool good = afu_context_open(&context, arg);

	afu_context_close(&context);
	return context.fd < 0 ? context.fd : good ? 0 : -EIO;
}

TEST_F(selinux, so_is_the_node_of_an_accelerator)
{
	struct afu_function function[AFU_MOST];

	ASSERT_EQ(1, afu_functions(function));
	ASSERT_EQ(0, afu_bind(function));
	ASSERT_TRUE(becomes(access(afu_path(function, NULL), F_OK), 0));
	ASSERT_EQ(0, label_as(afu_path(function, NULL), "uxive_range_t"));
	EXPECT_EQ(-EACCES, in_domain(OWNER, use_afu, function));
	ASSERT_EQ(0, label_as(afu_path(function, NULL), "uxive_device_t"));
	EXPECT_EQ(0, in_domain(OWNER, use_afu, function));
	EXPECT_EQ(-EACCES, in_domain(RECEIVER, use_afu, function));

	/* Its context is no object that a policy has to know of either. */
	ASSERT_EQ(0, policy_without("unaware_t.self.anon_inode.create"));
	EXPECT_EQ(0, in_domain(UNAWARE, use_afu, function));
	ASSERT_EQ(0, policy_without("owner_t.uxive_device_t.chr_file.open"));
	EXPECT_EQ(-EACCES, in_domain(OWNER, use_afu, function));
	EXPECT_EQ(0, afu_unbind(function));
}

/* Uses an interrupt by both ways to drain. */
static int use_contexts(void *arg)
{
	struct uxive_drain drain;
	struct bells bells;
	bool good;

	(void)arg;
	catch_touches();
	good = bells_open(&bells, 1) && bells_mute(&bells) < 0;
	bells_close(&bells);
	if (!good || !drain_open(&drain, ux_open(), 1))
		return -EIO;
	ring(uxive_drain_trigger(&drain, 0));
	good = uxive_drain_wait(&drain, WATCHDOG_MS) == 0;
	uxive_drain_eoi(&drain, 0);
	drain_close(&drain);
	return good ? 0 : -EIO;
}

static int try_range(void *arg)
{
	int fd = ux_open(), ret = fd < 0 ? -ESRCH : ux_range(fd, SLOTS_OF_RANGE);

	(void)arg;
	return ret < 0 ? ret : 0;
}

static int try_export(void *arg)
{
	int fd = ux_open(), ret = ux_fill(fd, 1) ? -ESRCH : ux_export(fd, 0, 1, NULL);

	(void)arg;
	return ret < 0 ? ret : 0;
}

/* Lets all of the audit's records come to the log. */
static bool audit_unlimited(void)
{
	return !file_write("/proc/sys/kernel/printk_ratelimit", "0");
}

/*
 * A program that may use the node, and may create no anonymous inode, has a context
 * that works, and the audit log has nothing about it. A denial that is then provoked shows
 * that it would.
 */
TEST_F(selinux, no_object_but_the_node_is_asked_for_to_use_a_context)
{
	int log, denials;

	ASSERT_TRUE(audit_unlimited());
	ASSERT_EQ(0, policy_without("unaware_t.self.anon_inode.create"));
	log = log_open();
	EXPECT_EQ(0, in_domain(UNAWARE, use_contexts, NULL));
	EXPECT_EQ(-EACCES, in_domain(UNAWARE, try_range, NULL));
	denials = 0;
	EXPECT_TRUE(becomes((denials += log_lines(log, "avc:  denied")) > 0, true));
	/* The log is in order. */
	EXPECT_EQ(1, denials);
	close(log);
}

TEST_F(selinux, a_range_is_made_only_by_who_may_create_it)
{
	EXPECT_EQ(0, in_domain(OWNER, try_range, NULL));
	ASSERT_EQ(0, policy_without("owner_t.uxive_range_t.anon_inode.create"));
	EXPECT_ERRNO(UXIVE_IOC_RANGE, EACCES, in_domain(OWNER, try_range, NULL));
	EXPECT_EQ(0, in_domain(OWNER, try_export, NULL));
}

TEST_F(selinux, an_export_is_made_only_by_who_may_create_it)
{
	EXPECT_EQ(0, in_domain(OWNER, try_export, NULL));
	ASSERT_EQ(0, policy_without("owner_t.uxive_doorbell_t.anon_inode.create"));
	EXPECT_ERRNO(UXIVE_IOC_EXPORT, EACCES, in_domain(OWNER, try_export, NULL));
	EXPECT_EQ(0, in_domain(OWNER, try_range, NULL));
}

/* Asks again and again for what is denied; 0 if nothing comes of it. */
static int be_refused(void *arg)
{
	int fd = ux_open(), files, exports;
	long irqs;

	(void)arg;
	if (ux_fill(fd, 1))
		return -ESRCH;
	files = fds_open();
	exports = total_exports(fd);
	irqs = total_irqs(fd);
	for (int i = 0; i < 100; i++)
		if (ux_range(fd, SLOTS_OF_RANGE) != -EACCES || ux_export(fd, 0, 1, NULL) != -EACCES)
			return -EIO;
	if (fds_open() != files || total_exports(fd) != exports || total_irqs(fd) != irqs)
		return -EBUSY;
	/* The interrupt is not lent. */
	return fdinfo_of(fd, "uxive-export") ? -EBUSY : ux_free(fd, IRQ_BASE);
}

TEST_F(selinux, of_a_refused_one_nothing_is_left)
{
	ASSERT_EQ(0, policy_without("unaware_t.self.anon_inode.create"));
	EXPECT_EQ(0, in_domain(UNAWARE, be_refused, NULL));
}

TEST_F(selinux, one_is_received_mapped_and_asked_only_by_who_may_use_its_label)
{
	static const struct {
		const char *rule;
		enum step denied;
	} wants[] = {
		{ "receiver_t.owner_t.fd.use", RECEIVE },
		{ "receiver_t.uxive_doorbell_t.anon_inode.read", RECEIVE },
		{ "receiver_t.uxive_doorbell_t.anon_inode.write", RECEIVE },
		{ "receiver_t.uxive_doorbell_t.anon_inode.map", RECEIVED_MAP },
		{ "receiver_t.uxive_doorbell_t.anon_inode.ioctl", RECEIVED_INFO },
	};

	ASSERT_TRUE(play(&self->scene, OWNER, RECEIVER));
	EXPECT_EQ(0, differences(&self->scene, 0, false));
	/* A domain of which no rule says that it may use the label. */
	ASSERT_TRUE(play(&self->scene, OWNER, UNAWARE));
	EXPECT_EQ(-EACCES, self->scene.result[RECEIVE]);

	for (size_t i = 0; i < ARRAY_SIZE(wants); i++) {
		ASSERT_EQ(0, policy_without(wants[i].rule));
		ASSERT_TRUE(play(&self->scene, OWNER, RECEIVER));
		EXPECT_EQ(-EACCES, self->scene.result[wants[i].denied]) TH_LOG("%s", wants[i].rule);
	}
}

/* Has a program of another domain tell what it finds in place of an export. */
static int exec_with_export(void *arg)
{
	int *output = arg, fd = ux_open(), export;

	if (ux_fill(fd, 1))
		return -ESRCH;
	export = ux_export(fd, 0, 1, NULL);
	/* Without O_CLOEXEC. */
	if (export < 0 || dup2(export, 30) != 30 || dup2(output[1], 1) != 1 ||
	    file_write("/proc/self/attr/exec", DOMAIN RECEIVER))
		return -ESRCH;
	execl("/bin/busybox", "busybox", "readlink", "/proc/self/fd/30", NULL);
	return -errno;
}

/* The name that it told. */
static const char *name_told(int output[2])
{
	static char text[256];
	ssize_t length;

	close(output[1]);
	length = read(output[0], text, sizeof(text) - 1);
	text[length < 0 ? 0 : length] = '\0';
	close(output[0]);
	return text;
}

TEST_F(selinux, one_is_inherited_over_exec_only_by_who_may_use_its_label)
{
	static const char * const needs[] = {
		"receiver_t.uxive_doorbell_t.anon_inode.read",
		"receiver_t.uxive_doorbell_t.anon_inode.write",
	};
	int output[2];

	ASSERT_EQ(0, pipe2(output, O_CLOEXEC));
	EXPECT_EQ(0, in_domain(OWNER, exec_with_export, output));
	EXPECT_STREQ("anon_inode:[uxive-doorbell]\n", name_told(output));
	for (size_t i = 0; i < ARRAY_SIZE(needs); i++) {
		ASSERT_EQ(0, policy_without(needs[i]));
		ASSERT_EQ(0, pipe2(output, O_CLOEXEC));
		EXPECT_EQ(0, in_domain(OWNER, exec_with_export, output));
		EXPECT_STREQ("/null\n", name_told(output)) TH_LOG("%s", needs[i]);
	}

	/* Then the other domain's program does not even start. */
	ASSERT_EQ(0, policy_without("receiver_t.owner_t.fd.use"));
	ASSERT_EQ(0, pipe2(output, O_CLOEXEC));
	EXPECT_EQ(-ESRCH, in_domain(OWNER, exec_with_export, output));
	EXPECT_STREQ("", name_told(output));
}

TEST_F(selinux, allowxperm_limits_the_ioctls_of_an_export)
{
	ASSERT_TRUE(play(&self->scene, OWNER, RECEIVER));
	EXPECT_EQ(0, self->scene.result[RECEIVED_INFO]);
	EXPECT_EQ(-EACCES, self->scene.result[RECEIVED_OTHER]);
	ASSERT_EQ(0, policy_without(LIMITED_IOCTLS));
	ASSERT_TRUE(play(&self->scene, OWNER, RECEIVER));
	EXPECT_EQ(0, self->scene.result[RECEIVED_INFO]);
	EXPECT_EQ(-ENOTTY, self->scene.result[RECEIVED_OTHER]);
}

TEST_F(selinux, without_a_transition_each_has_its_makers_type)
{
	ASSERT_TRUE(play(&self->scene, UNAWARE, UNAWARE));
	EXPECT_EQ(0, differences(&self->scene, 0, true));
	EXPECT_STREQ(OBJECT UNAWARE, self->scene.range_label);
	EXPECT_STREQ(OBJECT UNAWARE, self->scene.export_label);
}

TEST_F(selinux, the_audit_log_names_the_file_that_may_not_be_made)
{
	int log;

	ASSERT_TRUE(audit_unlimited());
	ASSERT_EQ(0, policy_without("unaware_t.self.anon_inode.create"));
	log = log_open();
	EXPECT_EQ(-EACCES, in_domain(UNAWARE, try_range, NULL));
	EXPECT_TRUE(becomes(log_lines(log, "anonclass=[uxive-range]"), 1));
	EXPECT_EQ(-EACCES, in_domain(UNAWARE, try_export, NULL));
	EXPECT_TRUE(becomes(log_lines(log, "anonclass=[uxive-doorbell]"), 1));
	close(log);
}

TEST_HARNESS_MAIN
