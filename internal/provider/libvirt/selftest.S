# selftest.S - the guest of the KVM self-test: a boot sector.
#
# It switches the processor to 64-bit mode, counts down from 20 million, makes a
# LOCK CMPXCHG16B, writes "TENKS-OK" on the first serial port and halts.
# That is little work for a processor and for emulation, and more than a
# hypervisor gets done that interprets guest kernels one instruction at a time.
#
#   as --32 -o selftest.o selftest.S
#   ld -m elf_i386 -Ttext 0x7c00 --oformat binary -o selftest.bin selftest.o

	.code16
	.globl _start
_start:
	cli
	xorw	%ax, %ax
	movw	%ax, %ds
	movw	%ax, %es
	movw	%ax, %ss
	movw	$0x7c00, %sp
	ljmp	$0, $1f		# some firmware starts us at 07c0:0000
1:
	cld
	movw	$0x1000, %di	# page tables at 0x1000, 0x2000, 0x3000: zero
	movw	$0x1800, %cx
	rep stosw
	movl	$0x2003, 0x1000	# PML4 -> PDPT
	movl	$0x3003, 0x2000	# PDPT -> PD
	movl	$0x0083, 0x3000	# PD: one page of 2 MiB, identity
	movl	$0xa0, %eax	# PAE, PGE
	movl	%eax, %cr4
	movl	$0x1000, %eax
	movl	%eax, %cr3
	movl	$0xc0000080, %ecx	# EFER
	rdmsr
	orl	$0x100, %eax	# long mode enable
	wrmsr
	lgdt	gdtr
	movl	%cr0, %eax
	orl	$0x80000001, %eax	# paging, protection
	movl	%eax, %cr0
	ljmpl	$8, $long

	.code64
long:
	movl	$20000000, %ecx
2:	decl	%ecx
	jnz	2b

	xorl	%eax, %eax	# compare RDX:RAX = 0 with 16 zero bytes
	xorl	%edx, %edx
	xorl	%ecx, %ecx
	movl	$1, %ebx	# and store RCX:RBX = 1
	movl	$0x4000, %edi
	movq	%rax, (%rdi)
	movq	%rax, 8(%rdi)
	lock cmpxchg16b (%rdi)
	jnz	4f
	cmpl	$1, (%rdi)
	jne	4f

	movl	$word, %esi
3:	movw	$0x3fd, %dx	# line status: transmitter empty
	inb	%dx, %al
	testb	$0x20, %al
	jz	3b
	lodsb
	testb	%al, %al
	jz	4f
	movw	$0x3f8, %dx
	outb	%al, %dx
	jmp	3b
4:	hlt
	jmp	4b

word:	.asciz	"\r\nTENKS-OK\r\n"

	.align	8
gdt:	.quad	0
	.quad	0x00af9a000000ffff	# 64-bit code
gdtr:	.word	. - gdt - 1
	.long	gdt

	.org	510
	.word	0xaa55
