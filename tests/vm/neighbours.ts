/** Proofs about what neighbours on one Ethernet do: IPv6 neighbour discovery, mDNS, DHCP and VRRP, between guests of different hosts. */
import { Buffer } from "node:buffer";
import { assertEquals, assertMatch } from "@std/assert";
import dnsPacket from "dns-packet";
import type { Lab } from "../lab/lab.ts";
import { unreached } from "../lab/probes.ts";
import { waitFor } from "../lab/wait.ts";
import { addGuest } from "../lab/client.ts";
import { ensureGuests, type Guest, ONE, TWO } from "./guests.ts";
import { NETWORK_DEADLINE_MS, onHost, type Proof } from "./stage.ts";

/** Starts a service in a guest; it ends with the machine, or by `stop`. */
async function startIn(lab: Lab, { host, namespace }: Guest, unit: string, argv: readonly string[]) {
  const command = argv.map((word) => `'${word}'`).join(" ");
  await onHost(
    lab,
    host,
    `systemctl stop ${unit} 2>/dev/null || :; systemctl reset-failed ${unit} 2>/dev/null || :
systemd-run --quiet --unit=${unit} ip netns exec ${namespace} ${command}`,
  );
}

async function stop(lab: Lab, { host }: Guest, unit: string): Promise<void> {
  await onHost(lab, host, `systemctl stop ${unit}`);
}

/** RFC 4291, appendix A: the address that the kernel makes of a MAC, of which only the last byte differs among guests. */
function linkLocal({ mac }: Guest): string {
  return `fe80::ff:fe00:${parseInt(mac.slice(-2), 16).toString(16)}`;
}

const MDNS = { name: "printer.local", address: "192.0.2.77", port: 5353 };

export function declareNeighbours(proof: Proof): void {
  proof("IPv6: a guest finds its neighbour behind another host", async (lab) => {
    await ensureGuests(lab);
    const address = linkLocal(TWO);
    const said = await onHost(
      lab,
      ONE.host,
      `ip -6 neigh flush dev eth0; ping -6 -n -q -c 3 -W 5 -s 1000 ${address}%eth0 >&2; ip -6 neigh show ${address} dev eth0`,
      ONE.namespace,
    );
    assertMatch(said, new RegExp(`^${address} lladdr ${TWO.mac} .*(REACHABLE|DELAY)`));
  });

  for (const family of ["IPv4", "IPv6"] as const) {
    proof(`mDNS: a question to all by ${family} is heard and answered behind another host`, async (lab) => {
      await ensureGuests(lab);
      await startResponder(lab, family);
      await waitFor("the answer of the responder", async () => {
        const answer = await askByMulticast(lab, family);
        return answer === MDNS.address || Promise.reject(new Error(`answered: ${answer}`));
      }, { deadlineMs: NETWORK_DEADLINE_MS });
      await stop(lab, TWO, "lab-mdns");
    });
  }

  proof("DHCP: a guest gets its address from a server behind another host", async (lab) => {
    await ensureGuests(lab);
    await startIn(lab, ONE, "lab-dhcp", [
      ...["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--user=root"],
      ...["--interface=eth0", "--bind-interfaces", "--dhcp-range=10.31.210.10,10.31.210.20,255.255.0.0,600"],
      ...[
        "--dhcp-authoritative",
        "--no-ping",
        "--dhcp-leasefile=/var/lib/misc/dnsmasq.leases",
        "--pid-file=/run/lab-dnsmasq.pid",
      ],
    ]);
    const fresh: Guest = { host: TWO.host, namespace: "guest-fresh", mac: "02:00:00:00:00:0a" };
    try {
      await addGuest(lab, fresh.host, { name: "fresh", address: "169.254.9.9/32", mac: fresh.mac });
      // Not in /run, which Debian's initrd mounts without leave to execute.
      const report = "#!/bin/sh\\necho $1 $ip $serverid\\n";
      const said = await onHost(
        lab,
        fresh.host,
        `printf '${report}' >/var/tmp/lab-lease; chmod 755 /var/tmp/lab-lease
ip netns exec guest-fresh busybox udhcpc -i eth0 -f -n -q -t 20 -T 2 -s /var/tmp/lab-lease`,
      );
      assertMatch(said, /^bound 10\.31\.210\.(1\d|20) 10\.31\.200\.5$/m);
      assertMatch(
        await onHost(lab, ONE.host, "cat /var/lib/misc/dnsmasq.leases"),
        new RegExp(` ${fresh.mac} `),
      );
    } finally {
      await stop(lab, ONE, "lab-dhcp");
      await onHost(lab, fresh.host, "ip netns delete guest-fresh || :");
    }
  });

  proof("VRRP: keepalived behind two hosts agrees on one master, and the other takes over", async (lab) => {
    await ensureGuests(lab);
    const shared = "10.31.210.1";
    await Promise.all([startKeepalived(lab, ONE, 100, shared), startKeepalived(lab, TWO, 50, shared)]);
    const holders = async () => {
      const held = await Promise.all([ONE, TWO].map(async (guest) => {
        const place = { namespace: guest.namespace };
        const { stdout } = await lab.exec(guest.host, ["ip", "-br", "address", "show", "dev", "eth0"], place);
        return stdout.includes(` ${shared}/`) ? [guest.host] : [];
      }));
      return held.flat();
    };
    const deadline = { deadlineMs: NETWORK_DEADLINE_MS };
    await waitFor("one master", async () => (await holders()).join() === ONE.host, deadline);
    await waitFor(
      "as many advertisements as it takes not to become master",
      () => heard(lab, TWO, 6),
      deadline,
    );
    assertEquals(await holders(), [ONE.host]);
    assertEquals(await unreached(lab.network("beta"), [shared]), []);
    await stop(lab, ONE, "lab-vrrp");
    await waitFor("the other master", async () => (await holders()).includes(TWO.host), deadline);
    await waitFor(
      "the shared address",
      async () => (await unreached(lab.network("beta"), [shared])).length === 0,
    );
    await stop(lab, TWO, "lab-vrrp");
  });
}

/** keepalived(8): writes its statistics down when it is asked to. */
async function heard(lab: Lab, { host }: Guest, count: number): Promise<boolean> {
  const script = `kill -USR2 $(cat /run/lab-vrrp.pid)
sed -n 's/.*Received: *//p' /tmp/keepalived.stats 2>/dev/null | head -n 1`;
  return Number(await onHost(lab, host, script)) >= count;
}

/** The question is read first: socat gives up when it cannot hand it over. */
const ANSWER = "SYSTEM:head -c 1 >/dev/null; cat /run/lab-mdns";

/** A question is answered by a fixed message; the number in it is that of the question. */
async function startResponder(lab: Lab, family: "IPv4" | "IPv6"): Promise<void> {
  const message = dnsPacket.encode({
    type: "response",
    id: 77,
    answers: [{ type: "A", name: MDNS.name, ttl: 120, data: MDNS.address }],
  });
  const base64 = btoa(String.fromCharCode(...message));
  await onHost(lab, TWO.host, `echo ${base64} | base64 -d >/run/lab-mdns`);
  const listen = family === "IPv4"
    ? `UDP4-RECVFROM:${MDNS.port},reuseaddr,fork,ip-add-membership=224.0.0.251:eth0`
    : `UDP6-RECVFROM:${MDNS.port},reuseaddr,fork,ipv6-join-group=[ff02::fb]:eth0`;
  await startIn(lab, TWO, "lab-mdns", ["socat", listen, ANSWER]);
}

/** RFC 6762, 6.7: who asks from another port than 5353 is answered directly. */
async function askByMulticast(lab: Lab, family: "IPv4" | "IPv6"): Promise<string | undefined> {
  const question = dnsPacket.encode({ type: "query", id: 77, questions: [{ type: "A", name: MDNS.name }] });
  const base64 = btoa(String.fromCharCode(...question));
  const to = family === "IPv4"
    ? `UDP4-DATAGRAM:224.0.0.251:${MDNS.port},ip-multicast-if=${"10.31.200.5"},ip-multicast-ttl=255`
    : `UDP6-DATAGRAM:[ff02::fb%eth0]:${MDNS.port}`;
  const answer = await onHost(
    lab,
    ONE.host,
    `echo ${base64} | base64 -d | timeout 30 socat -t 10 - '${to}' | base64 -w0`,
    ONE.namespace,
  );
  if (answer === "") return undefined;
  const message = dnsPacket.decode(Buffer.from(answer, "base64"));
  const [first] = message.answers ?? [];
  return first?.type === "A" ? String(first.data) : undefined;
}

async function startKeepalived(lab: Lab, guest: Guest, priority: number, shared: string): Promise<void> {
  const config = `vrrp_instance lab {
  interface eth0
  state BACKUP
  virtual_router_id 51
  priority ${priority}
  advert_int 1
  virtual_ipaddress {
    ${shared}/16
  }
}
`;
  const { code, stderr } = await lab.exec(guest.host, ["sh", "-c", "cat >/run/lab-vrrp.conf"], {
    stdin: config,
  });
  assertEquals(code, 0, stderr);
  await startIn(lab, guest, "lab-vrrp", [
    ...["keepalived", "--dont-fork", "--vrrp", "--log-console", "--use-file=/run/lab-vrrp.conf"],
    ...["--pid=/run/lab-keepalived.pid", "--vrrp_pid=/run/lab-vrrp.pid"],
  ]);
}
