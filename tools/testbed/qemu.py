# SPDX-License-Identifier: GPL-2.0
"""make guests: a VMM that nobody here wrote. Debian's QEMU runs in the machine, with KVM and a Linux guest, which has QEMU's
device ivshmem-doorbell. The server of that (tools/testing/guests/ivshmem.c) interrupts the guest by interrupts of uxive.

QEMU and its libraries are packages of Debian's oldstable: that has no point releases any more, so a mirror that is behind in
the root's series has them. The guest's firmware is of the root's QEMU.
"""

import os
import re
from pathlib import Path

from debs import Debs
from guest import cpio, program_files
from steps import BUILD, Failed

SERIES = "bookworm"
SOURCES = Path("/etc/apt/sources.list")
FIRMWARE = "/usr/share/qemu/vof.bin"
QEMU = "usr/bin/qemu-system-ppc64"
# QEMU refuses to start a guest that must be guarded from flaws of the CPU: firmware does not tell KVM that the CPU has none.
MACHINE = ("pseries,x-vof=on,ic-mode=xive,kernel-irqchip=on,"
           "cap-cfpc=broken,cap-sbbc=broken,cap-ibs=broken,cap-ccf-assist=off")
COMMAND = f"""
insmod /modules/kvm.ko && insmod /modules/kvm-hv.ko &&
ivshmem /{QEMU} -accel kvm -cpu host -M {MACHINE} -m 256M -nodefaults -display none \\
    -serial file:/tmp/console -no-reboot -kernel /guest/vmlinux -initrd /guest/initramfs \\
    -append "console=hvc0 panic=-1" \\
    -chardev socket,id=ivshmem,path=/tmp/ivshmem -device ivshmem-doorbell,chardev=ivshmem,vectors=4 || {{
    status=$?
    cat /tmp/console
    exit $status
}}"""


class Packages(Debs):
    """Packages of a series that the root's apt does not know: they have a list and an index of their own."""

    def __init__(self, names):
        super().__init__(names, series=SERIES, title="QEMU and its libraries")

    def how(self):
        apt = BUILD / "apt"
        (apt / "lists/partial").mkdir(parents=True, exist_ok=True)
        mirror = re.search(r"^deb (?:\[.*\] )?(\S+) trixie ", SOURCES.read_text(), re.MULTILINE)
        if not mirror:
            raise Failed("the root has no mirror of trixie")
        (apt / "list").write_text(f"deb [arch=ppc64el] {mirror[1]} {SERIES} main\n")
        (apt / "conf").write_text(f'Dir::Etc::SourceList "{apt}/list";\nDir::Etc::SourceParts "/dev/null";\n'
                                  f'Dir::State::Lists "{apt}/lists";\n')
        return {"env": os.environ | {"APT_CONFIG": str(apt / "conf")}}


# With those that it and they are linked to. The C library is the cross compiler's.
PACKAGES = Packages("""qemu-system-ppc libaio1 libblkid1 libbpf1 libcapstone4 libelf1 libfdt1 libffi8 libfuse3-3
    libglib2.0-0 libgmp10 libgnutls30 libhogweed6 libibverbs1 libidn2-0 libjpeg62-turbo libmount1
    libnettle8 libnl-3-200 libnl-route-3-200 libnuma1 libp11-kit0 libpcre2-8-0 libpixman-1-0
    libpng16-16 librdmacm1 libsasl2-2 libseccomp2 libselinux1 libslirp0 libtasn1-6 libudev1
    libunistring2 liburing2 libvdeplug2 libzstd1 zlib1g""")


def files(host, guest, programs):
    """The files of a machine with kernel `host` that has QEMU and a guest with kernel `guest`. Path in the initramfs → path
    here."""
    lack = PACKAGES.lack(*PACKAGES.paths)
    if lack:
        raise Failed(lack)
    qemu = PACKAGES.path("qemu-system-ppc", QEMU)
    init = cpio(host.path, BUILD / "boot/guests-guest", {"/init": programs["guests-guest"]})
    # Some are not where /usr has them by now.
    more = [path / "lib/powerpc64le-linux-gnu" for path in PACKAGES.paths.values()]
    return {f"/{QEMU}": qemu, **program_files(qemu, PACKAGES, more), FIRMWARE: FIRMWARE,
            "/bin/ivshmem": programs["guests-ivshmem"],
            "/guest/vmlinux": guest.path / "vmlinux", "/guest/initramfs": init,
            **{f"/modules/{name}": host.path / "arch/powerpc/kvm" / name for name in ("kvm.ko", "kvm-hv.ko")}}
