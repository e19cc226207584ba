# pread64(2), pwrite64(2) and lseek(2) of files that a thread was lent: crates/platform/src/windows.rs says where that lies. In: r11 the slot, which tells all, ecx
# the call's number; the arguments' registers but rdi. Up to `casemate_windows_sought` the call has not begun, and can be begun anew.
# An entry: 0x00 stamp, 0x08 until when it may be written to, 0x10 descriptor, 0x18 where its bytes lie, 0x20 how many, 0x28 position, 0x30 until when it may be read.

    .globl casemate_windows, casemate_windows_sought, casemate_fast_end

casemate_windows:
    mov rdi, [r11 + 0xb8]
    test rdi, rdi
    jz casemate_answers_ask
    mov r8d, [r11 + 0x40]
    mov eax, r8d
    and eax, 3
    shl eax, 6
    add rdi, rax
    cmp [rdi + 0x10], r8
    jne casemate_answers_ask
    mov rax, [rdi]
    cmp rax, [r11 + 0xa0]
    jbe casemate_answers_ask
    cmp ecx, 8
    je .Lwindows_seek
    # Some bytes, all of which lie there.
    mov r9, [rdi + 0x20]
    lea rax, [rdx - 1]
    cmp rax, 0xffff
    ja casemate_answers_ask
    mov rax, r9
    sub rax, r10
    jb casemate_answers_ask
    cmp rdx, rax
    ja casemate_answers_ask
    mov [r11 + 0x30], rdx
    add r10, [rdi + 0x18]
    rdtsc
    shl rdx, 32
    or rax, rdx
    cmp ecx, 17
    mov rcx, [r11 + 0x50]
    jne .Lwindows_write
    cmp rax, [rdi + 0x30]
    ja casemate_answers_ask
    mov r8, rdi
    mov rdi, rsi
    mov rsi, r10
    rep movsb
    # As long as it was: then it was when this was copied.
    cmp r9, [r8 + 0x20]
    je casemate_answers_over
    jmp casemate_answers_ask
.Lwindows_write:
    mov r8, [rdi + 0x08]
    cmp rax, r8
    ja casemate_answers_ask
    xchg rdi, r10
    rep movsb
    # What was written is seen before this looks: whoever ended the window first finds it all, or has it written anew behind what it does.
    mfence
    cmp r8, [r10 + 0x08]
    je casemate_answers_over
    jmp casemate_answers_ask

    # SEEK_SET, SEEK_CUR. A position that is not lent is negative.
.Lwindows_seek:
    mov rax, [rdi + 0x28]
    test rax, rax
    js casemate_answers_ask
    cmp edx, 1
    ja casemate_answers_ask
    mov r8, rsi
    jne .Lwindows_seek_to
    add r8, rax
    jo casemate_answers_ask
.Lwindows_seek_to:
    test r8, r8
    js casemate_answers_ask
    mov [r11 + 0x30], r8
    mov r10, rax
    lock cmpxchg [rdi + 0x28], r8
casemate_windows_sought:
    # Taken back meanwhile. Else rax is what r10 is.
    jne casemate_answers_ask
    jmp casemate_answers_over
casemate_fast_end:
