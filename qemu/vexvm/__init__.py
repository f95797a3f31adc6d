# SPDX-License-Identifier: MIT
"""Virtual machines that test VexFS: kernels, images, the machine itself and its console."""
