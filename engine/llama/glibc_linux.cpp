// What C++'s runtime takes from glibc where it was built against a new one, and an older system has not. Defined here,
// the binary does not ask for it: it then needs glibc 2.34 instead of 2.36 (TestGlibc, docs/releasing.md). Hidden, so
// that libraries that a driver brings keep to the system's.
#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/random.h>

#define HIDDEN __attribute__((visibility("hidden")))

// arc4random (glibc 2.36) is where std::random_device gets its bits.
extern "C" HIDDEN uint32_t arc4random(void) noexcept {
	uint32_t bits;

	while (getrandom(&bits, sizeof bits, 0) != sizeof bits) {
		// A signal may interrupt it before the kernel's pool is ready. Whoever asks cannot be told of anything else.
		if (errno != EINTR) {
			abort();
		}
	}
	return bits;
}

#if defined(__GLIBC_PREREQ) && __GLIBC_PREREQ(2, 35) && DLFO_STRUCT_HAS_EH_DBASE == 0

namespace {

struct lookup {
	uintptr_t        address;
	dl_find_object * result;
};

// find_in looks whether an address lies in one object, and stops the search if it does.
int find_in(dl_phdr_info * object, size_t, void * data) {
	auto * wanted = static_cast<lookup *>(data);
	const ElfW(Phdr) * frames = nullptr;
	uintptr_t start = UINTPTR_MAX;
	uintptr_t end = 0;
	bool      found = false;

	for (int i = 0; i < object->dlpi_phnum; i++) {
		const ElfW(Phdr) & segment = object->dlpi_phdr[i];
		const uintptr_t from = object->dlpi_addr + segment.p_vaddr;
		const uintptr_t to = from + segment.p_memsz;

		if (segment.p_type == PT_GNU_EH_FRAME) {
			frames = &segment;
		}
		if (segment.p_type == PT_LOAD) {
			start = from < start ? from : start;
			end = to > end ? to : end;
			found = found || (from <= wanted->address && wanted->address < to);
		}
	}
	if (!found || frames == nullptr) {
		return 0;
	}

	*wanted->result = {};
	wanted->result->dlfo_map_start = reinterpret_cast<void *>(start);
	wanted->result->dlfo_map_end = reinterpret_cast<void *>(end);
	wanted->result->dlfo_eh_frame = reinterpret_cast<void *>(object->dlpi_addr + frames->p_vaddr);
	return 1;
}

} // namespace

// _dl_find_object (glibc 2.35) is how an exception finds its handlers. The unwinder reads no more of the result than
// where an object's table of frames lies.
extern "C" HIDDEN int _dl_find_object(void * address, dl_find_object * result) noexcept {
	lookup wanted = { reinterpret_cast<uintptr_t>(address), result };

	return dl_iterate_phdr(find_in, &wanted) == 1 ? 0 : -1;
}

#endif
