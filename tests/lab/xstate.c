/*
 * Preloaded under linux.uml on processors with AMX. User-mode Linux 6.1 gives a process its vector registers back with
 * PTRACE_SETREGSET and a buffer of the size it was compiled for; a processor with AMX has more state than that, and the
 * machine's kernel answers EFAULT to anything but the whole of it (UML itself learned the real size in 6.13). So
 * complete it: read the whole state, lay UML's part over its beginning, write the whole.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

/* Static, because UML runs on small stacks. One is enough: one thread of UML runs all of the guest's processes. */
static char state[64 * 1024];

long ptrace(enum __ptrace_request request, ...)
{
	static long (*next)(enum __ptrace_request, pid_t, void *, void *);
	va_list arguments;

	va_start(arguments, request);
	pid_t pid = va_arg(arguments, pid_t);
	void *address = va_arg(arguments, void *);
	void *data = va_arg(arguments, void *);
	va_end(arguments);

	if (next == NULL)
		next = dlsym(RTLD_NEXT, "ptrace");
	if (request == PTRACE_SETREGSET && address == (void *)NT_X86_XSTATE) {
		struct iovec *part = data, whole = {state, sizeof(state)};
		if (next(PTRACE_GETREGSET, pid, address, &whole) != 0)
			return -1;
		memcpy(state, part->iov_base, part->iov_len);
		data = &whole;
		return next(request, pid, address, data);
	}
	return next(request, pid, address, data);
}
