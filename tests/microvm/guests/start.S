/* 64-bit entry: Linux's boot protocol, boot_params in rsi. */
    .section .text.start, "ax"
    .global _start
_start:
    mov $stack_top, %rsp
    xor %ebp, %ebp
    /* boot_params.hdr.cmd_line_ptr */
    mov 0x228(%rsi), %edi
    /* hdr.ramdisk_image, hdr.ramdisk_size, acpi_rsdp_addr */
    mov 0x21c(%rsi), %edx
    mov 0x070(%rsi), %rcx
    mov 0x218(%rsi), %esi
    call guest_main
1:  hlt
    jmp 1b

    .bss
    .balign 16
    .skip 16384
stack_top:
    .section .note.GNU-stack, "", @progbits
