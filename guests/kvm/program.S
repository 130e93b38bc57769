# What the virtual machine runs: operations from a list, in user mode (CPL 3) from the first
# instruction on. It needs no kernel, no stack and no interrupt.
#
#   r14  the control page          r15  the report page, behind which there is no memory
#   rsi  next operation            rdi  end of the list
#   r12  steps: operations done since it booted
#   r13  sum over all that it read: rotated left by one, then the word added
#   r11  its notes, or 0: what it stored last to each page; r10 their number less one
#
# Control page, 8-byte words:
#   0   stop    host -> program: anything but 0 stops it before the next operation
#   8   first   host -> program: address of the list's first operation
#  16   end     host -> program: address behind its last one
#  24   steps   program -> host, as of the report
#  32   sum     program -> host, likewise
#
# An operation, 24 bytes (paging_core.workloads.ops.OP_DTYPE):
#   0   address     8   value     16   gap (not looked at)     20   words, 16 bits     22   kind
#   kinds: 0 read a word, 1 store `words` words (value, value + 1, ...), 2 store what stands there,
#          8 nothing. The host lets no other kind and no store beyond a page's end through.
#
# Reports (a 4-byte store to the report page; the host's vCPU stops right there):
#   1   the list is at its end     2   stopped     3   a store was lost     4   no such operation
# After 1 and 2 the program asks the control page for a list.
#
# Notes, 16 bytes by page number: address and value of the last store to that page. Whatever
# touches the page next looks first whether the value still stands there.

.code64
.set STOP, 0
.set FIRST, 8
.set END, 16
.set STEPS, 24
.set SUM, 32
.set VALUE, 8
.set WORDS, 20
.set KIND, 22
.set OPERATION, 24

start:
        mov     FIRST(%r14), %rsi
        mov     END(%r14), %rdi
next:
        cmp     %rdi, %rsi
        je      empty
        cmpq    $0, STOP(%r14)
        jne     stopped
        mov     (%rsi), %rbx
        movzbl  KIND(%rsi), %eax
        cmp     $2, %eax
        ja      other
        test    %r11, %r11
        jnz     look
access:
        test    %eax, %eax
        jnz     store
        mov     (%rbx), %rdx
        rol     $1, %r13
        add     %rdx, %r13
step:
        inc     %r12
        add     $OPERATION, %rsi
        jmp     next

store:
        movzwl  WORDS(%rsi), %ecx
        cmp     $1, %eax
        jne     again
        mov     VALUE(%rsi), %rdx
        test    %r11, %r11
        jnz     note
fill:
        mov     %rdx, (%rbx)
        inc     %rdx
        add     $8, %rbx
        dec     %ecx
        jnz     fill
        jmp     step

again:                                  # what stands there already, by a write from the first
        orq     $0, (%rbx)              # touch on: no fault of a read comes before its own
        add     $8, %rbx
        dec     %ecx
        jnz     again
        jmp     step

look:                                   # r9: this page's note
        mov     %rbx, %r9
        shr     $12, %r9
        and     %r10, %r9
        shl     $4, %r9
        add     %r11, %r9
        mov     (%r9), %r8
        mov     %r8, %rdx
        xor     %rbx, %rdx
        shr     $12, %rdx
        jnz     access                  # of another page, or none yet
        mov     (%r8), %rdx
        cmp     %rdx, 8(%r9)
        je      access
        mov     $3, %eax
        jmp     report

note:
        mov     %rbx, (%r9)
        mov     %rdx, 8(%r9)
        jmp     fill

other:
        cmp     $8, %eax
        je      step
        mov     $4, %eax
        jmp     report
empty:
        mov     $1, %eax
        jmp     report
stopped:
        mov     $2, %eax
report:
        mov     %r12, STEPS(%r14)
        mov     %r13, SUM(%r14)
        mov     %eax, (%r15)
        jmp     start
