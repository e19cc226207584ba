# The fast path: where patched call sites go. Included into the loader's page; crates/platform/src/fast.rs says what each label means, and the layout of a slot.
# In: rcx the trampoline's own syscall instruction (a jump behind the site follows it), everything else as at the site. A system call clobbers rcx, r11 and
# flags, so these three are free; the program's stack is never touched (red zones, Go's small stacks). docs/decisions/2026-11-28-fast-path.md.

    .globl casemate_fast_away, casemate_fast_switch, casemate_fast_entry, casemate_fast_shifted, casemate_fast_packed, casemate_fast_saved, casemate_fast_kept, casemate_fast_done, casemate_fast_finished
    .globl casemate_fast_declined, casemate_fast_call, casemate_fast_called, casemate_fast_kept_away, casemate_fast_unpack, casemate_fast_leave, casemate_fast_ids, casemate_fast_known, casemate_fast_answered
    .globl casemate_fast_yields, casemate_fast_timed, casemate_fast_told, casemate_fast_yield, casemate_fast_yielded
    .globl casemate_fast_line, casemate_fast_line_saved, casemate_fast_line_kept, casemate_fast_line_filling, casemate_fast_line_filled, casemate_fast_line_written
    .globl casemate_fast_futex, casemate_fast_futex_over, casemate_fast_line_read, casemate_fast_line_reading, casemate_fast_line_seen, casemate_fast_line_over, casemate_fast_line_back, casemate_fast_line_slow

    # rax: the thread's FS base. r11: its entry in a table of the process, which lies so far behind that; made of bits, since no register is left.
    .macro CASEMATE_FAST_ENTRY mask
    rdfsbase rax
    mov r11d, eax
    shr r11d, 8
    and r11d, \mask
    bts r11, 46
    bts r11, 44
    .endm
    # eax: the processor that this runs on, by the selector that the vdso's getcpu uses.
    .macro CASEMATE_FAST_PROCESSOR
    mov eax, 0x7b
    lsl eax, eax
    .endm

    # One byte of the second instruction below, 0x77 or 0xeb, says whether any call comes further: where a thread is traced, none does.
    .balign 64
casemate_fast_away:
.Lfast_away:
    jmp rcx
    .balign 64
casemate_fast_entry:
    cmp eax, 0x1ff
casemate_fast_switch:
    ja .Lfast_away
    lea r11d, [rax - 102]
    cmp r11d, 6
    jbe casemate_fast_ids
    cmp eax, 202
    je casemate_fast_futex
    cmp eax, 24
    je casemate_fast_yields
    shl rcx, 16
casemate_fast_shifted:
    mov cx, ax
casemate_fast_packed:
    # The thread's slot. The table's page lies at 0x500000002000.
    CASEMATE_FAST_ENTRY 0xff0
    cmp [r11 + 0x2008], rax
    jne casemate_fast_unpack
    mov r11, [r11 + 0x2000]
    test r11, r11
    jz casemate_fast_unpack
    # read(2), write(2), sendto(2), recvfrom(2): of a line?
    movzx eax, cx
    cmp eax, 1
    jbe casemate_fast_line
    sub eax, 44
    cmp eax, 1
    jbe .Lfast_line_of_socket
.Lfast_ask:
    cmp dword ptr [r11], 0
    jne casemate_fast_unpack
    mov [r11 + 0x08], rcx
casemate_fast_saved:
    movzx ecx, cx
    lea rax, [rip + casemate_loader_start + 0xe00]
    movzx eax, byte ptr [rax + rcx]
    test eax, eax
    jz casemate_fast_kept_away
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
    # lseek(2), pread64(2), pwrite64(2): of a file that was lent to the thread?
    cmp ecx, 8
    je casemate_windows
    cmp ecx, 17
    je casemate_windows
    cmp ecx, 18
    je casemate_windows
.Lfast_by_class:
    xor ecx, ecx
    mov [r11 + 0x1c], rcx
    cmp eax, 1
    je .Lfast_post
    cmp eax, 3
    jb .Lfast_touch_out
    je .Lfast_copy_in
    cmp eax, 5
    jb .Lfast_of_descriptor
    je .Lfast_path_at_rdi
    cmp eax, 7
    jb .Lfast_path_at_rsi
    je .Lfast_path_at_rdi
    cmp eax, 9
    jb .Lfast_path_at_rsi
    je .Lfast_path_at_rdi
    cmp eax, 11
    jb .Lfast_path_at_rsi
    je .Lfast_locks
    cmp eax, 13
    jb .Lfast_path_at_rsi
    je .Lfast_copy_in
    jmp .Lfast_touch_out

    # 11: a struct flock from rdx, for the commands that have one: F_GETLK to F_SETLKW, F_OFD_GETLK to F_OFD_SETLKW.
.Lfast_locks:
    lea eax, [rsi - 5]
    cmp eax, 2
    jbe .Lfast_lock
    lea eax, [rsi - 36]
    cmp eax, 2
    ja .Lfast_post
.Lfast_lock:
    mov rsi, rdx
    mov ecx, 32
    jmp .Lfast_copy_from_rsi

    # 2, 14: data to rsi, at most rdx bytes of it. Touched first, so that data taken from a file always has where to go: writes nothing, in one step.
.Lfast_touch_out:
    test rdx, rdx
    jz .Lfast_post
    cmp rdx, 0x1000
    ja .Lfast_post
    lock or byte ptr [rsi], 0
    lock or byte ptr [rsi + rdx - 1], 0
    mov [r11 + 0x28], rsi
    mov [r11 + 0x20], edx
    jmp .Lfast_post

    # 3, 13: data from rsi, rdx bytes.
.Lfast_copy_in:
    test rdx, rdx
    jz .Lfast_post
    cmp rdx, 0x1000
    ja .Lfast_post
    mov ecx, edx
.Lfast_copy_from_rsi:
    mov [r11 + 0x20], ecx
    lea rdi, [r11 + 0x1000]
    rep movsb
    jmp .Lfast_post

    # 4: a struct stat to rsi. From where the thread has had it before, or by asking.
.Lfast_of_descriptor:
    cmp [r11 + 0xa8], rcx
    jne casemate_answers
.Lfast_stat_to_rsi:
    mov [r11 + 0x28], rsi
    mov dword ptr [r11 + 0x20], 144
    jmp .Lfast_post

    # 5, 7, 9: a path at rdi. 6, 8, 10, 12: at rsi. Without one of at most 255 bytes, the sentry reads it itself.
.Lfast_path_at_rdi:
    mov rsi, rdi
.Lfast_path_at_rsi:
    lea rdi, [r11 + 0x100]
    xor ecx, ecx
.Lfast_copy_path:
    mov al, [rsi + rcx]
    mov [rdi + rcx], al
    inc ecx
    test al, al
    jz .Lfast_path_copied
    cmp ecx, 256
    jb .Lfast_copy_path
    xor ecx, ecx
.Lfast_path_copied:
    mov [r11 + 0x1c], ecx
    cmp qword ptr [r11 + 0xa8], 0
    jne casemate_answers
.Lfast_ask_by_path:
    # 7: a struct stat to what was rsi. 8: to rdx.
    mov eax, [r11 + 0x14]
    cmp eax, 7
    jb .Lfast_post
    mov rsi, [r11 + 0x48]
    je .Lfast_stat_to_rsi
    # 9: a link's text to what was rsi, at most rdx bytes of it. 10: to rdx, at most r10.
    mov rcx, rdx
    cmp eax, 9
    je .Lfast_link_to_rsi
    mov rsi, rdx
    jb .Lfast_stat_to_rsi
    cmp eax, 12
    je .Lfast_statx_to_r8
    mov rcx, r10
.Lfast_link_to_rsi:
    mov [r11 + 0x28], rsi
    mov eax, 0x1000
    cmp rcx, rax
    cmova ecx, eax
    mov [r11 + 0x20], ecx
    jmp .Lfast_post

    # 12: a struct statx to r8.
.Lfast_statx_to_r8:
    mov [r11 + 0x28], r8
    mov dword ptr [r11 + 0x20], 256

.Lfast_post:
    # 13, 14: never served.
    cmp dword ptr [r11 + 0x14], 13
    jae .Lfast_declined
    # Nobody listens: then where this runs is told, so that a server is put elsewhere.
    cmp dword ptr [r11 + 0x04], 0
    je .Lfast_taken_back
    mov dword ptr [r11], 1
    mov ecx, 0x300
.Lfast_wait:
    mov eax, [r11]
    cmp eax, 3
    je casemate_fast_done
    cmp eax, 4
    je .Lfast_declined
    pause
    dec ecx
    jnz .Lfast_wait
    # Nobody came: taken back, if nobody comes just now; then where this runs is told again.
    mov eax, 1
    lock cmpxchg [r11], ecx
    jne .Lfast_serving
    mov dword ptr [r11 + 0x3c], 1
    jmp .Lfast_taken_back
.Lfast_serving:
    # It is being served, but by a long call, or on this very processor.
    mov rdi, r11
.Lfast_served_slowly:
    mov eax, 24
    syscall
    mov r11, rdi
    mov eax, [r11]
    cmp eax, 2
    je .Lfast_served_slowly
    cmp eax, 3
    jne .Lfast_declined

casemate_fast_done:
    mov ecx, [r11 + 0x18]
    test ecx, ecx
    jz .Lfast_copied
    mov rdi, [r11 + 0x28]
    lea rsi, [r11 + 0x1000]
    cmp ecx, 24
    jae .Lfast_copy_many
.Lfast_copy_byte:
    mov al, [rsi]
    mov [rdi], al
    inc rsi
    inc rdi
    dec ecx
    jnz .Lfast_copy_byte
    jmp .Lfast_copied
.Lfast_copy_many:
    rep movsb
.Lfast_copied:
    mov rax, [r11 + 0x30]
    mov rdi, [r11 + 0x40]
    mov rsi, [r11 + 0x48]
    mov rcx, [r11 + 0x08]
    shr rcx, 16
    add rcx, 2
    mov dword ptr [r11], 0
casemate_fast_finished:
    jmp rcx

casemate_fast_declined:
.Lfast_taken_back:
    CASEMATE_FAST_PROCESSOR
    mov [r11 + 0x38], eax
    # An ordinary call, but made here: the slot goes on holding what was copied, and takes what is to be (5). Its address has the one register
    # that is kept for it through the call, rbx.
.Lfast_declined:
    mov rdi, [r11 + 0x40]
    mov rsi, [r11 + 0x48]
    mov eax, [r11 + 0x10]
    mov dword ptr [r11], 5
    mov [r11 + 0x98], rbx
    mov rbx, r11
casemate_fast_call:
    syscall
casemate_fast_called:
    mov r11, rbx
    mov rbx, [r11 + 0x98]
    cmp dword ptr [r11], 3
    je casemate_fast_done
    mov [r11 + 0x30], rax
    mov dword ptr [r11 + 0x18], 0
    mov dword ptr [r11], 3
    jmp casemate_fast_done

    # Not by the channel.
casemate_fast_kept_away:
    mov rcx, [r11 + 0x08]
    mov dword ptr [r11], 0
casemate_fast_unpack:
    movzx eax, cx
    shr rcx, 16
casemate_fast_leave:
    cmp eax, 435
    je casemate_clone3
    jmp rcx

    # clone3(2): where it can be made as a plain clone(2), of which the sentry sees all arguments in registers. Up to the last line nothing has happened:
    # a fault at the program's pointers makes the ordinary call. Only 88 bytes, and if the sentry says so (no filter is to see a clone3).
casemate_clone3:
    cmp rsi, 88
    jne .Lfast_clone_as_asked
    cmp dword ptr [rip + casemate_loader_start + 0x1f20], 1
    jne .Lfast_clone_as_asked
    # No flag beyond 32 bits, no set_tid, no cgroup; none of the flags that clone(2) has not, or that need more (namespaces, CLONE_PIDFD, CLONE_PARENT).
    mov r11d, [rdi + 4]
    or r11, [rdi + 64]
    or r11, [rdi + 72]
    or r11, [rdi + 80]
    jnz .Lfast_clone_as_asked
    test dword ptr [rdi], 0x7e42b0ff
    jnz .Lfast_clone_as_asked
    # exit_signal: none for a thread, else SIGCHLD (another would be the host's own).
    test dword ptr [rdi], 0x10000
    jnz .Lfast_clone_thread
    cmp qword ptr [rdi + 32], 17
    jne .Lfast_clone_as_asked
    jmp .Lfast_clone_stack
.Lfast_clone_thread:
    cmp qword ptr [rdi + 32], 0
    jne .Lfast_clone_as_asked
    # A stack of the child's own, with room for what it restores.
.Lfast_clone_stack:
    mov r11, [rdi + 40]
    test r11, r11
    jz .Lfast_clone_as_asked
    cmp qword ptr [rdi + 48], 0x400
    jb .Lfast_clone_as_asked
    add r11, [rdi + 48]
    jc .Lfast_clone_as_asked
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
.Lfast_clone_as_asked:
    jmp rcx

    # getuid(2) and its like: what the sentry left on the data page, plus one. 0: ask.
casemate_fast_ids:
    cmp eax, 102
    je .Lfast_uid
    cmp eax, 104
    je .Lfast_gid
    cmp eax, 107
    je .Lfast_euid
    cmp eax, 108
    je .Lfast_egid
    jmp rcx
.Lfast_uid:
    mov r11, [rip + casemate_loader_start + 0x1f00]
    jmp .Lfast_known_id
.Lfast_gid:
    mov r11, [rip + casemate_loader_start + 0x1f08]
    jmp .Lfast_known_id
.Lfast_euid:
    mov r11, [rip + casemate_loader_start + 0x1f10]
    jmp .Lfast_known_id
.Lfast_egid:
    mov r11, [rip + casemate_loader_start + 0x1f18]
.Lfast_known_id:
    sub r11, 1
    jb casemate_fast_leave
.Lfast_answer:
    add rcx, 2
casemate_fast_known:
    mov rax, r11
casemate_fast_answered:
    jmp rcx

    # sched_yield(2). One that was made, and gave nobody the processor, is the answer to those that the thread asks for within the next 4096 cycles: a thread
    # that spins on it asks the host once in that time. Where somebody else ran meanwhile, more time has gone by, and the next is made as well.
    # When a thread last did: FS base, and the time stamp in 256 cycles; 32 of them, behind the commands. Not where the ids are not told, either.
casemate_fast_yields:
    cmp qword ptr [rip + casemate_loader_start + 0x1f00], 0
    je casemate_fast_leave
    mov r11, rdx
casemate_fast_timed:
    rdtsc
    mov rdx, r11
casemate_fast_told:
    shr eax, 8
    shl rcx, 16
casemate_fast_yield:
    mov cx, ax
    CASEMATE_FAST_ENTRY 0x1f0
    test rax, rax
    jz .Lfast_yield_now
    cmp [r11 + 0x1d00], rax
    jne .Lfast_yield_other
    movzx eax, cx
    sub ax, [r11 + 0x1d08]
    cmp ax, 16
    jae .Lfast_yield_now
    xor r11d, r11d
    jmp .Lfast_yield_decided
.Lfast_yield_other:
    mov [r11 + 0x1d00], rax
.Lfast_yield_now:
    mov [r11 + 0x1d08], cx
.Lfast_yield_decided:
    shr rcx, 16
casemate_fast_yielded:
    mov eax, 24
    test r11, r11
    jz .Lfast_answer
    jmp rcx

    # Lines (crates/platform/src/line.rs): 0x80 and 0x88 in a slot are read's and write's descriptors and words, 0x90 is the box to write to, 0x200 the own
    # one. In a box: its word (1 granted, 2 reader, 4 asleep, 8 filling, 16 full), the message's length, the writer's processor, patience, sleeps, bytes.
casemate_fast_line:
    jmp .Lfast_line_of_file
    # As write(2) and read(2), where no flag and no address is given.
.Lfast_line_of_socket:
    xor eax, 1
    test r10d, r10d
    jnz .Lfast_ask
    test r8, r8
    jnz .Lfast_ask
.Lfast_line_of_file:
    cmp [r11 + 8*rax + 0x80], edi
    jne .Lfast_ask
    cmp dword ptr [r11 + 8*rax + 0x84], 0
    je .Lfast_ask
    cmp dword ptr [r11], 0
    jne casemate_fast_unpack
    test rdx, rdx
    jz casemate_fast_unpack
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
.Lfast_write_try:
    mov eax, [r10]
    mov edi, eax
    and edi, -7
    cmp edi, ecx
    jne casemate_fast_line_slow
    lea edi, [rax + 8]
    lock cmpxchg [r10], edi
casemate_fast_line_filling:
    jne .Lfast_write_try
    lea rdi, [r10 + 0x40]
    mov ecx, edx
    rep movsb
    mov [r10 + 0x04], edx
    CASEMATE_FAST_PROCESSOR
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
.Lfast_read_try:
    mov eax, [r10]
    mov edi, eax
    and edi, -25
    cmp edi, ecx
    jne casemate_fast_line_slow
    lea edi, [rax + 2]
    lock cmpxchg [r10], edi
casemate_fast_line_reading:
    jne .Lfast_read_try
.Lfast_read_look:
    test edi, 16
    jnz .Lfast_read_message
    # The writer runs on this very processor: only without this thread. Elsewhere it is worth a look, as long as that has been.
    CASEMATE_FAST_PROCESSOR
    cmp eax, [r10 + 0x08]
    je .Lfast_read_weigh
    mov edx, [r10 + 0x0c]
    test edx, edx
    jz .Lfast_read_weigh
.Lfast_read_spin:
    pause
    mov eax, [r10]
    cmp eax, edi
    jne .Lfast_read_paid
    dec edx
    jnz .Lfast_read_spin
    shr dword ptr [r10 + 0x0c], 1
.Lfast_read_weigh:
    cmp dword ptr [r10 + 0x0c], 0
    jne .Lfast_read_sleep
    dec dword ptr [r10 + 0x10]
    jnz .Lfast_read_sleep
    mov dword ptr [r10 + 0x10], 64
    mov dword ptr [r10 + 0x0c], 4096
.Lfast_read_sleep:
    mov eax, edi
    or edi, 4
    lock cmpxchg [r10], edi
    jne .Lfast_read_again
    mov edx, edi
    mov rdi, r10
    xor esi, esi
    xor r10d, r10d
    mov eax, 202
    syscall
    lea r10, [r8 + 0x200]
    jmp .Lfast_read_again
.Lfast_read_paid:
    mov dword ptr [r10 + 0x0c], 4096
.Lfast_read_again:
    mov edi, [r10]
    mov eax, edi
    and eax, -31
    cmp eax, [r8 + 0x14]
    je .Lfast_read_look
    jmp casemate_fast_line_slow
    # A message. More than is asked for: the sentry keeps the rest.
.Lfast_read_message:
    mov edx, [r10 + 0x04]
    cmp rdx, [r8 + 0x50]
    ja casemate_fast_line_slow
    mov [r8 + 0x30], rdx
    mov [r8 + 0x18], edi
    mov rdi, [r8 + 0x48]
    lea rsi, [r10 + 0x40]
    mov ecx, edx
    cmp ecx, 24
    jae .Lfast_read_many
    test ecx, ecx
    jz .Lfast_read_over
.Lfast_read_byte:
    mov al, [rsi]
    mov [rdi], al
    inc rsi
    inc rdi
    dec ecx
    jnz .Lfast_read_byte
    jmp .Lfast_read_over
.Lfast_read_many:
    rep movsb
.Lfast_read_over:
    mov eax, [r8 + 0x18]
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
    jmp casemate_fast_unpack

    # futex(2) without a time limit, waiting: the host's own call, but begun only when the word is another one, or some 100 us later, where looking has been
    # paying lately, and 0x1fa0 allows it. 0x1f20: for every sixteenth thread of the process how many looks it takes, and its waits without.
casemate_fast_futex:
    mov eax, esi
    and eax, 0x7f
    jz .Lfast_futex_waits
    cmp eax, 9
    jne .Lfast_futex_call
.Lfast_futex_waits:
    test r10, r10
    jnz .Lfast_futex_call
    cmp dword ptr [rip + casemate_loader_start + 0x1fa0], 0
    je .Lfast_futex_call
    rdfsbase rax
    shr eax, 8
    and eax, 15
    lea r11, [rip + casemate_loader_start + 0x1f20]
    lea r11, [r11 + 8*rax]
    mov eax, [r11]
    test eax, eax
    jz .Lfast_futex_count
.Lfast_futex_look:
    cmp [rdi], edx
    jne .Lfast_futex_call
    pause
    dec eax
    jnz .Lfast_futex_look
    mov dword ptr [r11], 0
    jmp .Lfast_futex_call
.Lfast_futex_count:
    mov eax, [r11 + 4]
    inc dword ptr [r11 + 4]
    test eax, 0x1ff
    jnz .Lfast_futex_call
    mov eax, 4096
    mov [r11], eax
    jmp .Lfast_futex_look
.Lfast_futex_call:
    mov eax, 202
casemate_fast_futex_over:
    jmp rcx
