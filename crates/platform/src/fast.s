# The fast path: where patched call sites go. Included into the loader's page; crates/platform/src/fast.rs says what each label means, and the layout of a slot.
# In: rcx the trampoline's own syscall instruction (a jump behind the site follows it), everything else as at the site. A system call clobbers rcx, r11 and
# flags, so these three are free; the program's stack is never touched (red zones, Go's small stacks). docs/decisions/2026-11-28-fast-path.md.

    .globl casemate_fast_entry, casemate_fast_shifted, casemate_fast_packed, casemate_fast_saved, casemate_fast_kept, casemate_fast_done, casemate_fast_finished
    .globl casemate_fast_declined, casemate_fast_unpack, casemate_fast_leave, casemate_fast_ids, casemate_fast_known, casemate_fast_answered, casemate_fast_end
    .globl casemate_fast_yields, casemate_fast_timed, casemate_fast_told, casemate_fast_yield, casemate_fast_yielded
    .globl casemate_fast_line, casemate_fast_line_saved, casemate_fast_line_kept, casemate_fast_line_filling, casemate_fast_line_filled, casemate_fast_line_written
    .globl casemate_fast_futex, casemate_fast_futex_over, casemate_fast_line_read, casemate_fast_line_reading, casemate_fast_line_seen, casemate_fast_line_over, casemate_fast_line_back, casemate_fast_line_slow
    .balign 64
casemate_fast_entry:
    cmp eax, 0x1ff
    ja 9f
    lea r11d, [rax - 102]
    cmp r11d, 6
    jbe 20f
    cmp eax, 202
    je casemate_fast_futex
    cmp eax, 24
    je casemate_fast_yields
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
    # read(2), write(2), sendto(2), recvfrom(2): of a line?
    movzx eax, cx
    cmp eax, 1
    jbe casemate_fast_line
    sub eax, 44
    cmp eax, 1
    jbe 40f
    # Free, and somebody listens.
41: mov rax, [r11]
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
9:  cmp eax, 435
    je casemate_clone3
    jmp rcx

    # clone3(2): where it can be made as a plain clone(2), of which the sentry sees all arguments in registers. Up to the last line nothing has happened:
    # a fault at the program's pointers makes the ordinary call. Only 88 bytes, and if the sentry says so (no filter is to see a clone3).
casemate_clone3:
    cmp rsi, 88
    jne 93f
    cmp dword ptr [rip + casemate_loader_start + 0x1f20], 1
    jne 93f
    # No flag beyond 32 bits, no set_tid, no cgroup; none of the flags that clone(2) has not, or that need more (namespaces, CLONE_PIDFD, CLONE_PARENT).
    mov r11d, [rdi + 4]
    or r11, [rdi + 64]
    or r11, [rdi + 72]
    or r11, [rdi + 80]
    jnz 93f
    test dword ptr [rdi], 0x7e42b0ff
    jnz 93f
    # exit_signal: none for a thread, else SIGCHLD (another would be the host's own).
    test dword ptr [rdi], 0x10000
    jnz 91f
    cmp qword ptr [rdi + 32], 17
    jne 93f
    jmp 92f
91: cmp qword ptr [rdi + 32], 0
    jne 93f
    # A stack of the child's own, with room for what it restores.
92: mov r11, [rdi + 40]
    test r11, r11
    jz 93f
    cmp qword ptr [rdi + 48], 0x400
    jb 93f
    add r11, [rdi + 48]
    jc 93f
    mov [r11 - 192], rdi
    mov [r11 - 184], rsi
    mov [r11 - 176], rdx
    mov [r11 - 168], r10
    mov [r11 - 160], r8
    mov [r11 - 152], rcx
    mov [rsp - 192], rdi
    mov [rsp - 184], rsi
    mov [rsp - 176], rdx
    mov [rsp - 168], r10
    mov [rsp - 160], r8
    mov [rsp - 152], rcx
    lea rsp, [rsp - 192]
    jmp casemate_clone3_begun
93: jmp rcx

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
26: add rcx, 2
casemate_fast_known:
    mov rax, r11
casemate_fast_answered:
    jmp rcx

    # sched_yield(2). One that was made, and gave nobody the processor, is the answer to those that the thread asks for within the next 4096 cycles: a thread
    # that spins on it asks the host once in that time. Where somebody else ran meanwhile, more time has gone by, and the next is made as well.
    # When a thread last did: FS base, and the time stamp in 256 cycles; 32 of them, behind the commands. Not where the ids are not told, either.
casemate_fast_yields:
    cmp qword ptr [rip + casemate_loader_start + 0x1f00], 0
    je 9b
    mov r11, rdx
casemate_fast_timed:
    rdtsc
    mov rdx, r11
casemate_fast_told:
    shr eax, 8
    shl rcx, 16
casemate_fast_yield:
    mov cx, ax
    rdfsbase rax
    mov r11d, eax
    shr r11d, 8
    and r11d, 0x1f0
    bts r11, 46
    bts r11, 44
    test rax, rax
    jz 43f
    cmp [r11 + 0x1d00], rax
    jne 42f
    movzx eax, cx
    sub ax, [r11 + 0x1d08]
    cmp ax, 16
    jae 43f
    xor r11d, r11d
    jmp 44f
42: mov [r11 + 0x1d00], rax
43: mov [r11 + 0x1d08], cx
44: shr rcx, 16
casemate_fast_yielded:
    mov eax, 24
    test r11, r11
    jz 26b
    jmp rcx

    # Lines (crates/platform/src/line.rs): 0x80 and 0x88 in a slot are read's and write's descriptors and words, 0x90 is the box to write to, 0x200 the own
    # one. In a box: its word (1 granted, 2 reader, 4 asleep, 8 filling, 16 full), the message's length, the writer's processor, patience, sleeps, bytes.
casemate_fast_line:
    jmp 54f
    # As write(2) and read(2), where no flag and no address is given.
40: xor eax, 1
    test r10d, r10d
    jnz 41b
    test r8, r8
    jnz 41b
54: cmp [r11 + 8*rax + 0x80], edi
    jne 41b
    cmp dword ptr [r11 + 8*rax + 0x84], 0
    je 41b
    cmp dword ptr [r11], 0
    jne 8b
    test rdx, rdx
    jz 8b
    mov [r11 + 0x08], rcx
casemate_fast_line_saved:
    mov ecx, eax
    mov eax, [r11 + 8*rax + 0x84]
    mov [r11 + 0x14], eax
    mov [r11 + 0x40], rdi
    mov [r11 + 0x48], rsi
    mov [r11 + 0x50], rdx
    mov [r11 + 0x58], r10
    mov [r11 + 0x60], r8
casemate_fast_line_kept:
    # From here on the slot tells all of it, and is found by r8, which system calls leave.
    mov r8, r11
    test ecx, ecx
    jz casemate_fast_line_read
    cmp rdx, 0xdc0
    ja casemate_fast_line_slow
    mov [r8 + 0x30], rdx
    mov r10, [r8 + 0x90]
    mov ecx, eax
42: mov eax, [r10]
    mov edi, eax
    and edi, -7
    cmp edi, ecx
    jne casemate_fast_line_slow
    lea edi, [rax + 8]
    lock cmpxchg [r10], edi
casemate_fast_line_filling:
    jne 42b
    lea rdi, [r10 + 0x40]
    mov ecx, edx
    rep movsb
    mov [r10 + 0x04], edx
    mov eax, 0x7b
    lsl eax, eax
    mov [r10 + 0x08], eax
    mov eax, 8
    lock xadd [r10], eax
casemate_fast_line_filled:
    # Cut meanwhile: then it was not written.
    test eax, 1
    jz casemate_fast_line_slow
casemate_fast_line_written:
    test eax, 4
    jz casemate_fast_line_over
    mov rdi, r10
    mov esi, 1
    mov edx, 1
    mov eax, 202
    syscall
    jmp casemate_fast_line_over

casemate_fast_line_read:
    lea r10, [r8 + 0x200]
    mov ecx, eax
43: mov eax, [r10]
    mov edi, eax
    and edi, -25
    cmp edi, ecx
    jne casemate_fast_line_slow
    lea edi, [rax + 2]
    lock cmpxchg [r10], edi
casemate_fast_line_reading:
    jne 43b
44: test edi, 16
    jnz 49f
    # The writer runs on this very processor: only without this thread. Elsewhere it is worth a look, as long as that has been.
    mov eax, 0x7b
    lsl eax, eax
    cmp eax, [r10 + 0x08]
    je 46f
    mov edx, [r10 + 0x0c]
    test edx, edx
    jz 46f
45: pause
    mov eax, [r10]
    cmp eax, edi
    jne 47f
    dec edx
    jnz 45b
    shr dword ptr [r10 + 0x0c], 1
46: cmp dword ptr [r10 + 0x0c], 0
    jne 50f
    dec dword ptr [r10 + 0x10]
    jnz 50f
    mov dword ptr [r10 + 0x10], 64
    mov dword ptr [r10 + 0x0c], 4096
50: mov eax, edi
    or edi, 4
    lock cmpxchg [r10], edi
    jne 48f
    mov edx, edi
    mov rdi, r10
    xor esi, esi
    xor r10d, r10d
    mov eax, 202
    syscall
    lea r10, [r8 + 0x200]
    jmp 48f
47: mov dword ptr [r10 + 0x0c], 4096
48: mov edi, [r10]
    mov eax, edi
    and eax, -31
    cmp eax, [r8 + 0x14]
    je 44b
    jmp casemate_fast_line_slow
    # A message. More than is asked for: the sentry keeps the rest.
49: mov edx, [r10 + 0x04]
    cmp rdx, [r8 + 0x50]
    ja casemate_fast_line_slow
    mov [r8 + 0x30], rdx
    mov [r8 + 0x18], edi
    mov rdi, [r8 + 0x48]
    lea rsi, [r10 + 0x40]
    mov ecx, edx
    cmp ecx, 24
    jae 52f
    test ecx, ecx
    jz 53f
51: mov al, [rsi]
    mov [rdi], al
    inc rsi
    inc rdi
    dec ecx
    jnz 51b
    jmp 53f
52: rep movsb
53: mov eax, [r8 + 0x18]
    mov ecx, [r8 + 0x14]
    lock cmpxchg [r10], ecx
casemate_fast_line_seen:
    # Cut meanwhile: it is still to be read.
    jne casemate_fast_line_slow
casemate_fast_line_over:
    mov rax, [r8 + 0x30]
    mov rdi, [r8 + 0x40]
    mov rsi, [r8 + 0x48]
    mov rdx, [r8 + 0x50]
    mov r10, [r8 + 0x58]
    mov rcx, [r8 + 0x08]
    shr rcx, 16
    add rcx, 2
    mov r8, [r8 + 0x60]
casemate_fast_line_back:
    jmp rcx

casemate_fast_line_slow:
    mov rdi, [r8 + 0x40]
    mov rsi, [r8 + 0x48]
    mov rdx, [r8 + 0x50]
    mov r10, [r8 + 0x58]
    mov r11, r8
    mov r8, [r11 + 0x60]
    mov rcx, [r11 + 0x08]
    jmp 8b

    # futex(2) without a time limit, waiting: the host's own call, but begun only when the word is another one, or some 100 us later, where looking has been
    # paying lately, and 0x1fa0 allows it. 0x1f20: for every sixteenth thread of the process how many looks it takes, and its waits without.
casemate_fast_futex:
    mov eax, esi
    and eax, 0x7f
    jz 55f
    cmp eax, 9
    jne 58f
55: test r10, r10
    jnz 58f
    cmp dword ptr [rip + casemate_loader_start + 0x1fa0], 0
    je 58f
    rdfsbase rax
    shr eax, 8
    and eax, 15
    lea r11, [rip + casemate_loader_start + 0x1f20]
    lea r11, [r11 + 8*rax]
    mov eax, [r11]
    test eax, eax
    jz 57f
56: cmp [rdi], edx
    jne 58f
    pause
    dec eax
    jnz 56b
    mov dword ptr [r11], 0
    jmp 58f
57: mov eax, [r11 + 4]
    inc dword ptr [r11 + 4]
    test eax, 0x1ff
    jnz 58f
    mov eax, 4096
    mov [r11], eax
    jmp 56b
58: mov eax, 202
casemate_fast_futex_over:
    jmp rcx
casemate_fast_end:
