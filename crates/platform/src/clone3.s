# A clone(2) in place of a program's clone3(2): `fast.s` leads here from a patched site, a signal's frame from any other (crates/sentry/src/kernel/recloning.rs).
# Either side has, 192 bytes below the stack that it is to go on with, what its registers were and two less than where it goes on; its stack pointer is there,
# so that a signal leaves that alone and the red zone too. A frame in here tells the truth: a handler may run, and return or jump away.

    .globl casemate_clone3_make, casemate_clone3_made, casemate_clone3_end
casemate_clone3_begun:
    lea rsi, [r11 - 192]
    mov rdx, [rdi + 24]
    mov r10, [rdi + 16]
    mov r8, [rdi + 56]
    mov eax, [rdi + 32]
    or eax, [rdi]
    mov edi, eax
casemate_clone3_make:
    mov eax, 56
    syscall
casemate_clone3_made:
    mov rdi, [rsp]
    mov rsi, [rsp + 8]
    mov rdx, [rsp + 16]
    mov r10, [rsp + 24]
    mov r8, [rsp + 32]
    mov rcx, [rsp + 40]
    lea rsp, [rsp + 192]
    add rcx, 2
    jmp rcx
casemate_clone3_end:
