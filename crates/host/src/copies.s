// memcpy(3), memmove(3), memset(3), memcmp(3) and bcmp(3) of a build with musl, whose own are `rep movsq` from the first byte on, and a loop of bytes.
.pushsection .text.casemate_copies,"ax",@progbits
.globl memcpy, memmove, memset, memcmp, bcmp
.type memcpy, @function
.type memmove, @function
.type memset, @function
.type memcmp, @function
.type bcmp, @function

// Everything up to 128 bytes is read before any of it is written, so overlaps do not matter.
.balign 32
memcpy:
memmove:
    mov rax, rdi
    cmp rdx, 16
    jb 20f
    cmp rdx, 32
    ja 10f
    movups xmm0, [rsi]
    movups xmm1, [rsi + rdx - 16]
    movups [rdi], xmm0
    movups [rdi + rdx - 16], xmm1
    ret
10: cmp rdx, 64
    ja 11f
    movups xmm0, [rsi]
    movups xmm1, [rsi + 16]
    movups xmm2, [rsi + rdx - 32]
    movups xmm3, [rsi + rdx - 16]
    movups [rdi], xmm0
    movups [rdi + 16], xmm1
    movups [rdi + rdx - 32], xmm2
    movups [rdi + rdx - 16], xmm3
    ret
11: cmp rdx, 128
    ja 12f
    movups xmm0, [rsi]
    movups xmm1, [rsi + 16]
    movups xmm2, [rsi + 32]
    movups xmm3, [rsi + 48]
    movups xmm4, [rsi + rdx - 64]
    movups xmm5, [rsi + rdx - 48]
    movups xmm6, [rsi + rdx - 32]
    movups xmm7, [rsi + rdx - 16]
    movups [rdi], xmm0
    movups [rdi + 16], xmm1
    movups [rdi + 32], xmm2
    movups [rdi + 48], xmm3
    movups [rdi + rdx - 64], xmm4
    movups [rdi + rdx - 48], xmm5
    movups [rdi + rdx - 32], xmm6
    movups [rdi + rdx - 16], xmm7
    ret
12: mov rcx, rdi
    sub rcx, rsi
    cmp rcx, rdx
    jb 14f
    cmp rdx, 1024
    jb 13f
    mov rcx, rdx
    rep movsb
    ret
// Forwards: the target begins before the source, or lies apart. The last 64 bytes are read first.
13: movups xmm4, [rsi + rdx - 64]
    movups xmm5, [rsi + rdx - 48]
    movups xmm6, [rsi + rdx - 32]
    movups xmm7, [rsi + rdx - 16]
    lea r8, [rdi + rdx - 64]
1:  movups xmm0, [rsi]
    movups xmm1, [rsi + 16]
    movups xmm2, [rsi + 32]
    movups xmm3, [rsi + 48]
    movups [rdi], xmm0
    movups [rdi + 16], xmm1
    movups [rdi + 32], xmm2
    movups [rdi + 48], xmm3
    add rsi, 64
    add rdi, 64
    cmp rdi, r8
    jb 1b
    movups [r8], xmm4
    movups [r8 + 16], xmm5
    movups [r8 + 32], xmm6
    movups [r8 + 48], xmm7
    ret
// Backwards: the target begins within the source. The first 64 bytes are read first.
14: movups xmm4, [rsi]
    movups xmm5, [rsi + 16]
    movups xmm6, [rsi + 32]
    movups xmm7, [rsi + 48]
1:  movups xmm0, [rsi + rdx - 64]
    movups xmm1, [rsi + rdx - 48]
    movups xmm2, [rsi + rdx - 32]
    movups xmm3, [rsi + rdx - 16]
    movups [rdi + rdx - 64], xmm0
    movups [rdi + rdx - 48], xmm1
    movups [rdi + rdx - 32], xmm2
    movups [rdi + rdx - 16], xmm3
    sub rdx, 64
    cmp rdx, 64
    ja 1b
    movups [rdi], xmm4
    movups [rdi + 16], xmm5
    movups [rdi + 32], xmm6
    movups [rdi + 48], xmm7
    ret
20: cmp edx, 8
    jb 21f
    mov rcx, [rsi]
    mov r8, [rsi + rdx - 8]
    mov [rdi], rcx
    mov [rdi + rdx - 8], r8
    ret
21: cmp edx, 4
    jb 22f
    mov ecx, [rsi]
    mov r8d, [rsi + rdx - 4]
    mov [rdi], ecx
    mov [rdi + rdx - 4], r8d
    ret
22: test edx, edx
    jz 23f
    movzx ecx, byte ptr [rsi]
    movzx r8d, byte ptr [rsi + rdx - 1]
    cmp edx, 3
    jne 24f
    movzx r9d, byte ptr [rsi + 1]
    mov [rdi + 1], r9b
24: mov [rdi], cl
    mov [rdi + rdx - 1], r8b
23: ret
.size memcpy, . - memcpy
.size memmove, . - memmove

.balign 32
memset:
    mov rax, rdi
    movzx esi, sil
    mov rcx, 0x0101010101010101
    imul rsi, rcx
    cmp rdx, 16
    jb 30f
    movq xmm0, rsi
    punpcklqdq xmm0, xmm0
    cmp rdx, 512
    jae 32f
    lea r8, [rdi + rdx - 16]
1:  movups [rdi], xmm0
    add rdi, 16
    cmp rdi, r8
    jb 1b
    movups [r8], xmm0
    ret
32: mov r8, rax
    mov rax, rsi
    mov rcx, rdx
    rep stosb
    mov rax, r8
    ret
30: cmp edx, 8
    jb 31f
    mov [rdi], rsi
    mov [rdi + rdx - 8], rsi
    ret
31: cmp edx, 4
    jb 33f
    mov [rdi], esi
    mov [rdi + rdx - 4], esi
    ret
33: test edx, edx
    jz 34f
    mov [rdi], sil
    mov [rdi + rdx - 1], sil
    shr edx, 1
    mov [rdi + rdx], sil
34: ret
.size memset, . - memset

.balign 32
memcmp:
bcmp:
    xor ecx, ecx
    sub rdx, 16
    jb 42f
41: movdqu xmm0, [rdi + rcx]
    movdqu xmm1, [rsi + rcx]
    pcmpeqb xmm0, xmm1
    pmovmskb eax, xmm0
    xor eax, 0xffff
    jnz 43f
    cmp rcx, rdx
    je 45f
    add rcx, 16
    cmp rcx, rdx
    jbe 41b
    mov rcx, rdx
    jmp 41b
43: bsf eax, eax
    add rcx, rax
    movzx eax, byte ptr [rdi + rcx]
    movzx edx, byte ptr [rsi + rcx]
    sub eax, edx
    ret
45: xor eax, eax
    ret
42: add rdx, 16
    jz 45b
44: movzx eax, byte ptr [rdi + rcx]
    movzx r8d, byte ptr [rsi + rcx]
    sub eax, r8d
    jnz 46f
    add rcx, 1
    cmp rcx, rdx
    jb 44b
46: ret
.size memcmp, . - memcmp
.size bcmp, . - bcmp
.popsection
