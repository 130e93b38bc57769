"""KVM's numbers and structures on x86-64.

Source: Linux, include/uapi/linux/kvm.h and arch/x86/include/uapi/asm/kvm.h; a test holds them
against the headers of a machine that has some.
"""

from __future__ import annotations

import ctypes
from ctypes import c_uint8, c_uint16, c_uint32, c_uint64
from enum import IntEnum

API_VERSION = 12

KVM_GET_API_VERSION = 0xAE00
KVM_CREATE_VM = 0xAE01
KVM_CHECK_EXTENSION = 0xAE03
KVM_GET_VCPU_MMAP_SIZE = 0xAE04
KVM_GET_SUPPORTED_CPUID = 0xC008AE05
KVM_CREATE_VCPU = 0xAE41
KVM_GET_DIRTY_LOG = 0x4010AE42
KVM_SET_NR_MMU_PAGES = 0xAE44
KVM_SET_USER_MEMORY_REGION = 0x4020AE46
KVM_RUN = 0xAE80
KVM_GET_REGS = 0x8090AE81
KVM_SET_REGS = 0x4090AE82
KVM_GET_SREGS = 0x8138AE83
KVM_SET_SREGS = 0x4138AE84
KVM_SET_MSRS = 0x4008AE89
KVM_GET_XSAVE = 0x9000AEA4
KVM_SET_XSAVE = 0x5000AEA5
KVM_SET_CPUID2 = 0x4008AE90
KVM_GET_VCPU_EVENTS = 0x8040AE9F
KVM_SET_VCPU_EVENTS = 0x4040AEA0
KVM_ENABLE_CAP = 0x4068AEA3
KVM_CLEAR_DIRTY_LOG = 0xC018AEC0
KVM_RESET_DIRTY_RINGS = 0xAEC7
KVM_GET_STATS_FD = 0xAECE

KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 = 168
KVM_CAP_DIRTY_LOG_RING = 192
KVM_CAP_BINARY_STATS_FD = 203
KVM_CAP_DISABLE_QUIRKS2 = 213

KVM_MEM_LOG_DIRTY_PAGES = 1 << 0
KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE = 1 << 0
KVM_DIRTY_LOG_INITIALLY_SET = 1 << 1
KVM_X86_QUIRK_SLOT_ZAP_ALL = 1 << 7
KVM_DIRTY_LOG_PAGE_OFFSET = 64
"""Pages from the start of a vCPU's mapping to its dirty ring."""
KVM_DIRTY_GFN_F_DIRTY = 1 << 0
KVM_DIRTY_GFN_F_RESET = 1 << 1


class Exit(IntEnum):
    """Why KVM_RUN came back, as far as a guest without devices can cause it."""

    UNKNOWN = 0
    EXCEPTION = 1
    IO = 2
    HYPERCALL = 3
    DEBUG = 4
    HLT = 5
    MMIO = 6
    IRQ_WINDOW_OPEN = 7
    SHUTDOWN = 8
    FAIL_ENTRY = 9
    INTR = 10
    INTERNAL_ERROR = 17
    X86_RDMSR = 29
    X86_WRMSR = 30
    DIRTY_RING_FULL = 31
    X86_BUS_LOCK = 33


class Structure(ctypes.Structure):
    """One of KVM's structures: as bytes, and from them."""


class MemoryRegion(Structure):
    """kvm_userspace_memory_region."""

    _fields_ = [
        ("slot", c_uint32), ("flags", c_uint32), ("guest_phys_addr", c_uint64),
        ("memory_size", c_uint64), ("userspace_addr", c_uint64),
    ]  # fmt: skip


class Registers(Structure):
    """kvm_regs."""

    _fields_ = [
        (name, c_uint64)
        for name in (
            "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp",
            "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "rip", "rflags",
        )
    ]  # fmt: skip


class Segment(Structure):
    """kvm_segment."""

    _fields_ = [
        ("base", c_uint64), ("limit", c_uint32), ("selector", c_uint16),
        *((name, c_uint8) for name in (
            "type", "present", "dpl", "db", "s", "l", "g", "avl", "unusable", "padding",
        )),
    ]  # fmt: skip


class DescriptorTable(Structure):
    """kvm_dtable."""

    _fields_ = [("base", c_uint64), ("limit", c_uint16), ("padding", c_uint16 * 3)]


class SystemRegisters(Structure):
    """kvm_sregs."""

    _fields_ = [
        *((name, Segment) for name in ("cs", "ds", "es", "fs", "gs", "ss", "tr", "ldt")),
        ("gdt", DescriptorTable), ("idt", DescriptorTable),
        *((name, c_uint64) for name in (
            "cr0", "cr2", "cr3", "cr4", "cr8", "efer", "apic_base",
        )),
        ("interrupt_bitmap", c_uint64 * 4),
    ]  # fmt: skip


class RunHead(Structure):
    """kvm_run, as far as what an MMIO exit says."""

    _fields_ = [
        ("request_interrupt_window", c_uint8), ("immediate_exit", c_uint8),
        ("padding1", c_uint8 * 6), ("exit_reason", c_uint32),
        ("ready_for_interrupt_injection", c_uint8), ("if_flag", c_uint8), ("flags", c_uint16),
        ("cr8", c_uint64), ("apic_base", c_uint64),
        # of KVM_EXIT_MMIO; of others the address's place holds their own first word
        ("address", c_uint64), ("data", c_uint8 * 8), ("length", c_uint32), ("is_write", c_uint8),
    ]  # fmt: skip


class DirtyLog(Structure):
    """kvm_dirty_log."""

    _fields_ = [("slot", c_uint32), ("padding", c_uint32), ("bitmap", c_uint64)]


class ClearDirtyLog(Structure):
    """kvm_clear_dirty_log."""

    _fields_ = [
        ("slot", c_uint32), ("num_pages", c_uint32), ("first_page", c_uint64),
        ("bitmap", c_uint64),
    ]  # fmt: skip


class EnableCap(Structure):
    """kvm_enable_cap."""

    _fields_ = [
        ("cap", c_uint32), ("flags", c_uint32), ("args", c_uint64 * 4), ("padding", c_uint8 * 64),
    ]  # fmt: skip


class StatsHeader(Structure):
    """kvm_stats_header."""

    _fields_ = [
        (name, c_uint32)
        for name in ("flags", "name_size", "num_desc", "id_offset", "desc_offset", "data_offset")
    ]


class StatsDescription(Structure):
    """kvm_stats_desc; the counter's name follows."""

    _fields_ = [
        ("flags", c_uint32), ("exponent", c_uint16), ("size", c_uint16), ("offset", c_uint32),
        ("bucket_size", c_uint32),
    ]  # fmt: skip


class VcpuEvents(Structure):
    """kvm_vcpu_events."""

    _fields_ = [("bytes", c_uint8 * 64)]


class Xsave(Structure):
    """kvm_xsave: the processor's own format."""

    _fields_ = [("bytes", c_uint8 * 4096)]


MAX_CPUID_ENTRIES = 256
CPUID_HEAD_BYTES, CPUID_ENTRY_BYTES = 8, 40
MSR_ENTRY_BYTES = 16
DIRTY_GFN_BYTES = 16
