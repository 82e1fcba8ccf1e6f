/* Lets an xdp-bench run on a kernel that has lost a tracepoint it knows of, as
 * xdp_redirect_map_err went with Linux 6.18 and xdp-bench 1.3.1 still loads a
 * program for it, which `drop` never attaches. Preloaded (LD_PRELOAD): programs
 * for tracepoints that the kernel has not are left out when an object is opened.
 */
#define _GNU_SOURCE
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <dlfcn.h>
#include <string.h>

static const char section[] = "tp_btf/";

static int is_missing(const struct bpf_program *program)
{
	const char *name = bpf_program__section_name(program);
	size_t len = sizeof section - 1;
	return !strncmp(name, section, len) &&
	       libbpf_find_vmlinux_btf_id(name + len, BPF_TRACE_RAW_TP) < 0;
}

int bpf_object__open_skeleton(struct bpf_object_skeleton *skeleton,
			      const struct bpf_object_open_opts *options)
{
	int (*next)(struct bpf_object_skeleton *, const struct bpf_object_open_opts *) =
		dlsym(RTLD_NEXT, "bpf_object__open_skeleton");
	int error = next(skeleton, options);
	struct bpf_program *program;
	if (error)
		return error;
	bpf_object__for_each_program(program, *skeleton->obj)
		if (is_missing(program))
			bpf_program__set_autoload(program, false);
	return 0;
}
