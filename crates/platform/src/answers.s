# Answers that a thread has had before: crates/platform/src/answers.rs says where they lie. In: r11 the slot, in which everything is kept; ecx bytes of a path
# that was copied there, with its NUL (0: none). Until the last jump the call has not begun, and can be begun anew.

    .globl casemate_answers, casemate_answers_over, casemate_answers_found, casemate_answers_ask

casemate_answers:
    cmp ecx, 192
    ja .Lanswers_ask
    mov eax, [r11 + 0x10]
    mov r8d, [r11 + 0x40]
    xor r9d, r9d
    cmp eax, 5
    je .Lanswers_search
    # Without a path of its length, none.
    test ecx, ecx
    jz .Lanswers_ask
    mov r9d, [r11 + 0x58]
    cmp eax, 262
    je .Lanswers_of_path
    mov r9, [r11 + 0x58]
    cmp eax, 267
    je .Lanswers_of_path
    shl r9, 32
    mov edx, [r11 + 0x50]
    or r9, rdx
    cmp eax, 332
    je .Lanswers_of_path
    cmp eax, 439
    je .Lanswers_of_path
    mov r9, rdx
    cmp eax, 269
    je .Lanswers_of_path
    # Those without a descriptor.
    xor r8d, r8d
    mov r9, [r11 + 0x50]
    cmp eax, 89
    je .Lanswers_of_path
    mov r9d, [r11 + 0x48]
    cmp eax, 21
    je .Lanswers_of_path
    xor r9d, r9d
    cmp eax, 4
    je .Lanswers_of_path
    cmp eax, 6
    jne .Lanswers_ask
.Lanswers_of_path:
    # Whole words of it are looked at.
    mov qword ptr [r11 + rcx + 0x100], 0
    # rax, r10: number and owner. r8, r9: what else tells the question.
.Lanswers_search:
    or rax, [r11 + 0xb0]
    mov r10, rax
    mov rdi, 0x9e3779b97f4a7c15
    imul rax, rdi
    xor rax, r8
    imul rax, rdi
    xor rax, r9
    xor edx, edx
    jmp .Lanswers_hash_next
.Lanswers_hash:
    imul rax, rdi
    xor rax, [r11 + rdx + 0x100]
    add edx, 8
.Lanswers_hash_next:
    cmp edx, ecx
    jb .Lanswers_hash
    imul rax, rdi
    shr rax, 56
    shl eax, 9
    add rax, [r11 + 0xa8]
    mov rdi, rax
    # rdi: the entry, rsi: its stamp.
    mov rsi, [rdi]
    cmp rsi, [r11 + 0xa0]
    jbe .Lanswers_ask
    cmp r10, [rdi + 0x10]
    jne .Lanswers_ask
    cmp r8, [rdi + 0x18]
    jne .Lanswers_ask
    cmp r9, [rdi + 0x20]
    jne .Lanswers_ask
    cmp ecx, [rdi + 0x28]
    jne .Lanswers_ask
    xor edx, edx
    jmp .Lanswers_compare_next
.Lanswers_compare:
    mov rax, [r11 + rdx + 0x100]
    cmp rax, [rdi + rdx + 0x40]
    jne .Lanswers_ask
    add edx, 8
.Lanswers_compare_next:
    cmp edx, ecx
    jb .Lanswers_compare
    rdtsc
    shl rdx, 32
    or rax, rdx
    cmp rax, [rdi + 0x08]
    ja .Lanswers_ask
    # The data, ecx bytes of it, to where the argument says.
    mov ecx, [rdi + 0x2c]
    mov eax, [rdi + 0x38]
    mov r8, [r11 + rax]
    xor edx, edx
    jmp .Lanswers_copy_next
.Lanswers_copy:
    mov rax, [rdi + rdx + 0x100]
    mov [r8 + rdx], rax
    mov edx, r9d
.Lanswers_copy_next:
    lea r9d, [rdx + 8]
    cmp r9d, ecx
    jbe .Lanswers_copy
    jmp .Lanswers_byte_next
.Lanswers_byte:
    mov al, [rdi + rdx + 0x100]
    mov [r8 + rdx], al
    inc edx
.Lanswers_byte_next:
    cmp edx, ecx
    jb .Lanswers_byte
    # Still the same, and still true: then it was when it was copied.
    mov rax, [rdi + 0x30]
    cmp rsi, [rdi]
    jne .Lanswers_ask
    cmp rsi, [r11 + 0xa0]
    jbe .Lanswers_ask
    mov [r11 + 0x30], rax
casemate_answers_over:
    mov rax, [r11 + 0x30]
    mov rdi, [r11 + 0x40]
    mov rsi, [r11 + 0x48]
    mov rdx, [r11 + 0x50]
    mov r10, [r11 + 0x58]
    mov r8, [r11 + 0x60]
    mov r9, [r11 + 0x68]
    mov rcx, [r11 + 0x08]
    shr rcx, 16
    add rcx, 2
casemate_answers_found:
    jmp rcx

casemate_answers_ask:
.Lanswers_ask:
    mov rdx, [r11 + 0x50]
    mov r10, [r11 + 0x58]
    mov r8, [r11 + 0x60]
    mov r9, [r11 + 0x68]
    mov rsi, [r11 + 0x48]
    mov eax, [r11 + 0x14]
    cmp eax, 4
    je .Lfast_stat_to_rsi
    ja .Lfast_ask_by_path
    jmp .Lfast_by_class
