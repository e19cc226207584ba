/* PVH entry: 32 bits, paging off, hvm_start_info in ebx. Goes to 64 bits with an identity map of 4 GiB. */
    .section .note.pvh, "a", @note
    .long 4, 4, 18          /* name size, value size, XEN_ELFNOTE_PHYS32_ENTRY */
    .asciz "Xen"
    .long pvh_start

    .section .text.start, "ax"
    .code32
    .global pvh_start
pvh_start:
    mov %ebx, start_info
    mov $pml4, %eax
    mov %eax, %cr3
    mov $0x20, %eax         /* CR4.PAE */
    mov %eax, %cr4
    mov $0xc0000080, %ecx   /* EFER.LME */
    rdmsr
    or $0x100, %eax
    wrmsr
    mov %cr0, %eax
    or $0x80000000, %eax
    mov %eax, %cr0
    lgdt gdt_pointer
    ljmp $8, $long_mode
    .code64
long_mode:
    mov $16, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov $stack_top, %rsp
    mov start_info, %eax
    mov 24(%rax), %rdi      /* cmdline_paddr */
    mov 32(%rax), %rcx      /* rsdp_paddr */
    xor %esi, %esi
    xor %edx, %edx
    cmpl $0, 12(%rax)       /* nr_modules */
    je 2f
    mov 16(%rax), %rax      /* modlist_paddr */
    mov 0(%rax), %rsi
    mov 8(%rax), %rdx
2:
    call guest_main
1:  hlt
    jmp 1b

    .data
    .balign 8
gdt:
    .quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff
gdt_pointer:
    .word 23
    .long gdt
start_info:
    .long 0
    .balign 4096
pml4:
    .quad pdpt + 3
    .fill 511, 8, 0
pdpt:
    .quad directories + 3, directories + 0x1003, directories + 0x2003, directories + 0x3003
    .fill 508, 8, 0
directories:
    .set page, 0
    .rept 2048
    .quad page + 0x83
    .set page, page + 0x200000
    .endr

    .bss
    .balign 16
    .skip 16384
stack_top:
    .section .note.GNU-stack, "", @progbits
