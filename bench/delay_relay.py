"""A network of TUN devices that delays every packet. bench/network.ts uses it if the kernel has no netem.

usage: delay_relay.py MILLISECONDS DEVICE...    device i gets the packets for 10.77.0.(i + 1)
Creates the devices, prints a line, and forwards packets until its stdin ends; then the devices are removed. Packets have the kernel's
offload header, so that one packet has up to 64 KiB of a TCP stream, and are forwarded unchanged. Waiting bytes are bounded; packets beyond
the bound are dropped.
"""

import fcntl
import os
import select
import struct
import sys
import time
from collections import deque

TUNSETIFF, TUNSETOFFLOAD = 0x400454CA, 0x400454D0
IFF_TUN, IFF_NO_PI, IFF_VNET_HDR = 0x0001, 0x1000, 0x4000
OFFLOAD_CHECKSUM, OFFLOAD_TCP4 = 0x01, 0x02
HEADER_BYTES = 10
MAX_PACKET_BYTES = HEADER_BYTES + 65535
PACKETS_PER_TURN = 16
MAX_WAITING_BYTES = 512 << 20

delay_s = float(sys.argv[1]) / 1000
devices = []
for name in sys.argv[2:]:
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI | IFF_VNET_HDR))
    fcntl.ioctl(device, TUNSETOFFLOAD, OFFLOAD_CHECKSUM | OFFLOAD_TCP4)
    devices.append(device)
with open("/proc/self/timerslack_ns", "w") as slack:
    slack.write("1")
print("ready", flush=True)

waiting = deque()
num_waiting_bytes = 0
while True:
    timeout_s = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
    readable, _, _ = select.select([0, *devices], [], [], timeout_s)
    if 0 in readable and not os.read(0, 1):
        sys.exit()
    for device in readable:
        if device == 0:
            continue
        due_s = time.monotonic() + delay_s
        for _ in range(PACKETS_PER_TURN):
            try:
                packet = os.read(device, MAX_PACKET_BYTES)
            except BlockingIOError:
                break
            if packet[HEADER_BYTES] >> 4 == 4 and num_waiting_bytes < MAX_WAITING_BYTES:
                waiting.append((due_s, packet))
                num_waiting_bytes += len(packet)
    now_s = time.monotonic()
    while waiting and waiting[0][0] <= now_s:
        _, packet = waiting.popleft()
        num_waiting_bytes -= len(packet)
        receiver = packet[HEADER_BYTES + 19] - 1
        if 0 <= receiver < len(devices):
            try:
                os.write(devices[receiver], packet)
            except OSError:
                pass  # drop the packet, as on any network
