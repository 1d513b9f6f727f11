	.text
	.p2align 4
	.globl	_Z5probev
	.type	_Z5probev, @function
_Z5probev:
.LFB6402:
	.cfi_startproc
	movzwl	.LC0(%rip), %eax
	pxor	%xmm0, %xmm0
	movb	$1, -72(%rsp)
	movups	%xmm0, -39(%rsp)
	movups	%xmm0, -24(%rsp)
	movw	%ax, -24(%rsp)
	movl	.LC1(%rip), %eax
	movups	%xmm0, -71(%rsp)
	movups	%xmm0, -55(%rsp)
	movl	%eax, -56(%rsp)
	ldtilecfg	-72(%rsp)
	ret
	.cfi_endproc
.LFE6402:
	.size	_Z5probev, .-_Z5probev
	.section	.rodata.cst2,"aM",@progbits,2
	.align 2
.LC0:
	.byte	8
	.byte	16
	.section	.rodata.cst4,"aM",@progbits,4
	.align 4
.LC1:
	.value	64
	.value	32
	.section	.note.GNU-stack,"",@progbits
