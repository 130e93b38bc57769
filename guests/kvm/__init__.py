"""A virtual machine as guest, by /dev/kvm: bound by `abi` and `device`, it runs `program`."""
