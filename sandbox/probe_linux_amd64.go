package sandbox

import "golang.org/x/sys/unix"

// x32 marks the calls of another set, with pointers of 32 bits.
const x32 = 0x40000000

// legacyActs are those of this architecture alone.
var legacyActs = []act{
	{group: GroupKernel, name: "a call of x32", do: raw(x32 | unix.SYS_GETPID), lacking: true},
	{group: GroupKernel, name: "modify_ldt", do: raw(unix.SYS_MODIFY_LDT, 0, invalid), lacking: true},
	{group: GroupKernel, name: "iopl", do: raw(unix.SYS_IOPL), lacking: true},
	{group: GroupKernel, name: "ioperm", do: raw(unix.SYS_IOPERM), lacking: true},
}
