// syscall(2), in place of the library's: with a frame, so that a walk of a thread that waits in it goes on to its caller. glibc's has none, musl's has rbp for something else.
.pushsection .text.casemate_call,"ax",@progbits
.globl syscall
.type syscall, @function
.balign 16
syscall:
.cfi_startproc
    push rbp
.cfi_def_cfa_offset 16
.cfi_offset rbp, -16
    mov rbp, rsp
.cfi_def_cfa_register rbp
    mov rax, rdi
    mov rdi, rsi
    mov rsi, rdx
    mov rdx, rcx
    mov r10, r8
    mov r8, r9
    mov r9, [rbp + 16]
    syscall
    cmp rax, -4095
    jae 10f
    pop rbp
.cfi_remember_state
.cfi_def_cfa rsp, 8
    ret
.cfi_restore_state
10: sub rsp, 16 // a call wants a multiple of 16
    neg eax
    mov [rsp], eax
    call __errno_location
    mov ecx, [rsp]
    mov [rax], ecx
    mov rax, -1
    leave
.cfi_def_cfa rsp, 8
    ret
.cfi_endproc
.size syscall, . - syscall
.popsection
