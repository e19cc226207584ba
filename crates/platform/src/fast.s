# The fast path: where patched call sites go. Included into the loader's page; crates/platform/src/fast.rs says what each label means, and the layout of a slot.
# In: rcx the trampoline's own syscall instruction (a jump behind the site follows it), everything else as at the site. A system call clobbers rcx, r11 and
# flags, so these three are free; the program's stack is never touched (red zones, Go's small stacks). docs/decisions/2026-11-28-fast-path.md.

    .globl casemate_fast_entry, casemate_fast_shifted, casemate_fast_packed, casemate_fast_saved, casemate_fast_kept, casemate_fast_done, casemate_fast_finished
    .globl casemate_fast_declined, casemate_fast_unpack, casemate_fast_leave, casemate_fast_ids, casemate_fast_known, casemate_fast_answered, casemate_fast_end
    .balign 64
casemate_fast_entry:
    cmp eax, 0x1ff
    ja 9f
    lea r11d, [rax - 102]
    cmp r11d, 6
    jbe 20f
    shl rcx, 16
casemate_fast_shifted:
    mov cx, ax
casemate_fast_packed:
    # The thread's slot: a table of the process, by the thread's FS base. Its page lies at 0x500000002000.
    rdfsbase rax
    mov r11d, eax
    shr r11d, 8
    and r11d, 0xff0
    bts r11, 46
    bts r11, 44
    cmp [r11 + 0x2008], rax
    jne 8f
    mov r11, [r11 + 0x2000]
    test r11, r11
    jz 8f
    # Free, and somebody listens.
    mov rax, [r11]
    btr rax, 32
    jc 4f
    # Nobody: where this runs, so that a server is put elsewhere (the selector is what the vdso's getcpu uses).
    mov eax, 0x7b
    lsl eax, eax
    mov [r11 + 0x38], eax
    jmp 8f
4:  test rax, rax
    jnz 8f
    mov [r11 + 0x08], rcx
casemate_fast_saved:
    movzx ecx, cx
    lea rax, [rip + casemate_loader_start + 0xe00]
    movzx eax, byte ptr [rax + rcx]
    test eax, eax
    jz 7f
    mov [r11 + 0x10], ecx
    mov [r11 + 0x14], eax
    mov [r11 + 0x40], rdi
    mov [r11 + 0x48], rsi
    mov [r11 + 0x50], rdx
    mov [r11 + 0x58], r10
    mov [r11 + 0x60], r8
    mov [r11 + 0x68], r9
casemate_fast_kept:
    # From here on rdi, rsi, rcx, rax are free: all of it can be had back from the slot.
    xor ecx, ecx
    mov [r11 + 0x1c], rcx
    cmp eax, 1
    je 5f
    cmp eax, 3
    jb 32f
    je 12f
    cmp eax, 5
    jb 13f
    je 14f
    cmp eax, 6
    je 15f
    cmp eax, 7
    je 14f
    jmp 15f

    # 2: data to rsi, at most rdx bytes of it. Touched first, so that data taken from a file always has where to go: writes nothing, in one step.
32: test rdx, rdx
    jz 5f
    cmp rdx, 0x1000
    ja 5f
    lock or byte ptr [rsi], 0
    lock or byte ptr [rsi + rdx - 1], 0
    mov [r11 + 0x28], rsi
    mov [r11 + 0x20], edx
    jmp 5f

    # 3: data from rsi, rdx bytes.
12: test rdx, rdx
    jz 5f
    cmp rdx, 0x1000
    ja 5f
    mov [r11 + 0x20], edx
    lea rdi, [r11 + 0x1000]
    mov ecx, edx
    rep movsb
    jmp 5f

    # 4: a struct stat to rsi.
13: mov [r11 + 0x28], rsi
    mov dword ptr [r11 + 0x20], 144
    jmp 5f

    # 5, 7: a path at rdi. 6, 8: at rsi. Without one of at most 255 bytes, the sentry reads it itself.
14: mov rsi, rdi
15: lea rdi, [r11 + 0x100]
    xor ecx, ecx
16: mov al, [rsi + rcx]
    mov [rdi + rcx], al
    inc ecx
    test al, al
    jz 17f
    cmp ecx, 256
    jb 16b
    xor ecx, ecx
17: mov [r11 + 0x1c], ecx
    # 7: a struct stat to what was rsi. 8: to rdx.
    mov eax, [r11 + 0x14]
    cmp eax, 7
    jb 5f
    mov rsi, [r11 + 0x48]
    je 13b
    mov rsi, rdx
    jmp 13b

5:  mov dword ptr [r11], 1
    mov ecx, 0x300
6:  mov eax, [r11]
    cmp eax, 3
    je casemate_fast_done
    cmp eax, 4
    je casemate_fast_declined
    pause
    dec ecx
    jnz 6b
    # Nobody came: taken back, if nobody comes just now; then where this runs is told again.
    mov eax, 1
    lock cmpxchg [r11], ecx
    je 27f
    # It is being served, but by a long call, or on this very processor.
    mov rdi, r11
18: mov eax, 24
    syscall
    mov r11, rdi
    mov eax, [r11]
    cmp eax, 2
    je 18b
    cmp eax, 3
    jne casemate_fast_declined

casemate_fast_done:
    mov ecx, [r11 + 0x18]
    test ecx, ecx
    jz 3f
    mov rdi, [r11 + 0x28]
    lea rsi, [r11 + 0x1000]
    cmp ecx, 24
    jae 2f
31: mov al, [rsi]
    mov [rdi], al
    inc rsi
    inc rdi
    dec ecx
    jnz 31b
    jmp 3f
2:  rep movsb
3:  mov rax, [r11 + 0x30]
    mov rdi, [r11 + 0x40]
    mov rsi, [r11 + 0x48]
    mov rcx, [r11 + 0x08]
    shr rcx, 16
    add rcx, 2
    mov dword ptr [r11], 0
casemate_fast_finished:
    jmp rcx

casemate_fast_declined:
    jmp 28f
27: mov eax, 0x7b
    lsl eax, eax
    mov [r11 + 0x38], eax
28: mov rdi, [r11 + 0x40]
    mov rsi, [r11 + 0x48]
7:  mov rcx, [r11 + 0x08]
    mov dword ptr [r11], 0
casemate_fast_unpack:
8:  movzx eax, cx
    shr rcx, 16
casemate_fast_leave:
9:  jmp rcx

    # getuid(2) and its like: what the sentry left on the data page, plus one. 0: ask.
casemate_fast_ids:
20: cmp eax, 102
    je 21f
    cmp eax, 104
    je 22f
    cmp eax, 107
    je 23f
    cmp eax, 108
    je 24f
    jmp rcx
21: mov r11, [rip + casemate_loader_start + 0x1f00]
    jmp 25f
22: mov r11, [rip + casemate_loader_start + 0x1f08]
    jmp 25f
23: mov r11, [rip + casemate_loader_start + 0x1f10]
    jmp 25f
24: mov r11, [rip + casemate_loader_start + 0x1f18]
25: sub r11, 1
    jb 9b
    add rcx, 2
casemate_fast_known:
    mov rax, r11
casemate_fast_answered:
    jmp rcx
casemate_fast_end:
