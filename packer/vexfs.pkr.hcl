# SPDX-License-Identifier: MIT
# A bootable Debian image with vexfs.ko and the tools installed. Needs Packer 1.6.6 or newer (Debian's) and no network:
# the base disk comes from packer/base-image, which shares its package list with qemu/. `packer/build` does all of it.

variable "directory" {
  type    = string
  default = "build/packer"
}

variable "kernel_release" {
  type = string
}

variable "accelerator" {
  type    = string
  default = "tcg"
}

source "qemu" "vexfs" {
  iso_url              = "${var.directory}/base.qcow2"
  iso_checksum         = "none" # made on this machine a moment ago
  disk_image           = true
  use_backing_file     = false
  skip_resize_disk     = true
  format               = "qcow2"
  vm_name              = "vexfs.qcow2"
  output_directory     = "${var.directory}/image"
  accelerator          = var.accelerator
  headless             = true
  disable_vnc          = true
  memory               = 1024
  cpus                 = 2
  net_device           = "virtio-net"
  disk_interface       = "virtio"
  ssh_username         = "root"
  ssh_private_key_file = "${var.directory}/key"
  ssh_timeout          = "10m"
  shutdown_command     = "poweroff"
  qemuargs = [
    ["-cpu", "max"],
    ["-kernel", "${var.directory}/vmlinuz"],
    ["-initrd", "${var.directory}/initrd"],
    ["-append", "root=LABEL=vexfs-root rw console=ttyS0 net.ifnames=0"],
    ["-serial", "file:${var.directory}/console.log"],
  ]
}

build {
  sources = ["source.qemu.vexfs"]

  provisioner "file" {
    source      = "${var.directory}/payload.tar"
    destination = "/root/payload.tar"
  }

  # The image must do what it is for: load the module by mounting, keep a file and a vector.
  provisioner "shell" {
    inline = [
      "set -eu",
      "tar -C / -xf /root/payload.tar && rm /root/payload.tar",
      "depmod ${var.kernel_release}",
      "echo vexfs > /etc/modules-load.d/vexfs.conf",
      "truncate -s 256M /var/tmp/smoke.img && mkfs.vexfs -q -f /var/tmp/smoke.img",
      "mkdir -p /mnt/vexfs && mount -t vexfs -o loop /var/tmp/smoke.img /mnt/vexfs",
      "echo it works > /mnt/vexfs/file",
      "vexctl collection create --mkdir -d 4 /mnt/vexfs/c && vexctl add /mnt/vexfs/c --vector '[1,0,0,0]'",
      "umount /mnt/vexfs && fsck.vexfs -n -f /var/tmp/smoke.img && mount -t vexfs -o loop /var/tmp/smoke.img /mnt/vexfs",
      "grep -q works /mnt/vexfs/file && vexctl search /mnt/vexfs/c -q '[1,0,0,0]' -k 1",
      "umount /mnt/vexfs && rm /var/tmp/smoke.img",
    ]
  }
}
