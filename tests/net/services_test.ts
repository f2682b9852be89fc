/** What listens on a host, as `ss` or /proc/net tells it. */
import { assertEquals } from "@std/assert";
import { parseServices } from "../../lib/net/services.ts";

const EXTERNAL = { interface: "ens3", addresses: ["198.51.100.2/24"] };

function read(text: string): string[] {
  return parseServices(text.trim().split("\n"), EXTERNAL).map(({ protocol, port, program, reach }) =>
    `${port}/${protocol} ${program ?? "-"} ${reach}`
  );
}

Deno.test("parseServices: what ss prints; loopback, other interfaces, clients of DHCP and of names are none", () => {
  const found = read(`
udp   UNCONN 0      0      198.51.100.2%ens3:68        0.0.0.0:*    users:(("systemd-network",pid=240,fd=22))
udp   UNCONN 0      0         127.0.0.53%lo:53         0.0.0.0:*    users:(("systemd-resolve",pid=300,fd=13))
udp   UNCONN 0      0               0.0.0.0:123        0.0.0.0:*    users:(("ntpd",pid=412,fd=17))
udp   UNCONN 0      0               0.0.0.0:41000      0.0.0.0:*    users:(("avahi-daemon",pid=413,fd=14))
udp   UNCONN 0      0               0.0.0.0:51821      0.0.0.0:*
udp   UNCONN 0      0               0.0.0.0:51820      0.0.0.0:*
udp   UNCONN 0      0               0.0.0.0:5353       0.0.0.0:*    users:(("avahi-daemon",pid=413,fd=12))
udp   UNCONN 0      0    [fe80::1]%ens3:546            [::]:*       users:(("systemd-network",pid=240,fd=23))
tcp   LISTEN 0      4096      127.0.0.53%lo:53         0.0.0.0:*    users:(("systemd-resolve",pid=300,fd=14))
tcp   LISTEN 0      128             0.0.0.0:22         0.0.0.0:*    users:(("sshd",pid=500,fd=3))
tcp   LISTEN 0      128                [::]:22            [::]:*    users:(("sshd",pid=500,fd=4))
tcp   LISTEN 0      511                   *:443              *:*    users:(("nginx",pid=601,fd=7),("nginx",pid=600,fd=7))
tcp   LISTEN 0      511        198.51.100.2:8080       0.0.0.0:*    users:(("apache2",pid=700,fd=4))
tcp   LISTEN 0      511          172.17.0.1:9000       0.0.0.0:*    users:(("docker-proxy",pid=701,fd=4))
tcp   LISTEN 0      511                [::]:70            [::]:*    users:(("gopher",pid=702,fd=4))
tcp   LISTEN 0      511      [2001:db8::1]:71             [::]:*    users:(("finger",pid=703,fd=4))
tcp   LISTEN 0      511               [::1]:72            [::]:*    users:(("local",pid=704,fd=4))
tcp   LISTEN 0      511          0.0.0.0%ens4:73          0.0.0.0:*    users:(("inner",pid=705,fd=4))
tcp   LISTEN 0      511  [::ffff:127.0.0.1]:74               *:*    users:(("java",pid=706,fd=4))
`);
  assertEquals(found, [
    "22/tcp sshd all",
    "70/tcp gopher ipv6",
    "71/tcp finger ipv6",
    "123/udp ntpd all",
    "443/tcp nginx all",
    "8080/tcp apache2 address",
    "51821/udp - all",
  ]);
});

Deno.test("parseServices: what /proc/net holds where there is no ss", () => {
  const found = read(`
tcp    0: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
tcp    1: 0100007F:0035 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2 1 0 100 0 0 10 0
tcp    2: 026433C6:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 3 1 0 100 0 0 10 0
udp   10: 00000000:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4 2 0 0
tcp6   0: 00000000000000000000000000000000:01BB 00000000000000000000000000000000:0000 0A 00000000:00000000
tcp6   1: 00000000000000000000000001000000:0016 00000000000000000000000000000000:0000 0A 00000000:00000000
tcp6   2: 0000000000000000FFFF0000026433C6:0051 00000000000000000000000000000000:0000 0A 00000000:00000000
tcp6   3: B80D0120000000000000000001000000:0052 00000000000000000000000000000000:0000 0A 00000000:00000000
`);
  assertEquals(found, [
    "53/udp - all",
    "80/tcp - all",
    "81/tcp - address",
    "82/tcp - ipv6",
    "443/tcp - all",
    "8080/tcp - address",
  ]);
});

Deno.test("parseServices: a program's name is cleaned, and lines that are none are no service", () => {
  const evil = 'tcp LISTEN 0 1 0.0.0.0:80 0.0.0.0:* users:(("\u001b[2J",pid="x\u202e",pid=1,fd=3))';
  assertEquals(read(evil), ["80/tcp ?[2J all"]);
  const long = `tcp LISTEN 0 1 0.0.0.0:80 0.0.0.0:* users:(("${"a".repeat(99)}",pid=1,fd=3))`;
  assertEquals(read(long), [`80/tcp ${"a".repeat(15)} all`]);
  assertEquals(read("\n@@links\nusers:((\ntcp\ntcp LISTEN 0 1 0.0.0.0:* 0\nudp ESTAB 0 0 0.0.0.0:9 0"), []);
});
