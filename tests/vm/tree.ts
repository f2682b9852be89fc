/**
 * Proofs about Open vSwitch's known trouble: three hosts with a full mesh, RSTP and VLANs (its issue tracker's number 122 tells of fake
 * bridges that do not hear each other; docs/real_kernels.md says why).
 */
import { assertEquals, assertMatch } from "@std/assert";
import { sendFrame } from "../lab/capture.ts";
import type { Lab } from "../lab/lab.ts";
import { waitFor } from "../lab/wait.ts";
import { ensureGuests, ONE, TAGGED, TWO } from "./guests.ts";
import { notPassed, type Sized, type Spot } from "./packets.ts";
import { MACHINES, MTU, NETWORK_DEADLINE_MS, onHost, type Proof } from "./stage.ts";

const FAKE_BRIDGES = ["alpha", "gamma"] as const;
const FAKE_VLAN = 77;
/** IEEE 802, local experimental EtherType 1. */
const EXPERIMENTAL = 0x88b5;

const VSCTL = "ovs-vsctl --db=unix:/run/mobula/ovs/db.sock";
const APPCTL = "ovs-appctl -t /run/mobula/ovs/vswitchd.ctl";

export function declareTree(proof: Proof): void {
  proof(
    "tree: tagged neighbours on three hosts hear each other, also after the tree has changed",
    async (lab) => {
      await ensureGuests(lab);
      await waitForNeighbours(lab, "the neighbours");
      const changed = await cutTree(lab);
      try {
        await waitForNeighbours(lab, "the neighbours, by another way");
      } finally {
        await onHost(lab, changed.host, changed.restore);
      }
      await waitForNeighbours(lab, "the neighbours, as before");
    },
  );

  proof(
    "tree: a fake bridge that joins late is flooded to by nobody, though its frames arrive",
    async (lab) => {
      const [from, to] = FAKE_BRIDGES;
      const forBoth = (script: string) => Promise.all(FAKE_BRIDGES.map((name) => onHost(lab, name, script)));
      await forBoth(`${VSCTL} add-br fake0 ovsbr-mobula ${FAKE_VLAN}; ip -n mobula link set fake0 up`);
      try {
        const filter = `vlan ${FAKE_VLAN} and ether proto ${EXPERIMENTAL}`;
        const deadlineMs = NETWORK_DEADLINE_MS;
        let heard = false;
        const hears = onHost(
          lab,
          to,
          `timeout ${deadlineMs / 1000} tcpdump -e -n -c 1 -i veth_fac0 -Q in '${filter}' 2>/dev/null`,
        ).finally(() => heard = true);
        const frame = { to: "ff:ff:ff:ff:ff:ff", from: "02:00:00:00:77:01", type: EXPERIMENTAL };
        const send = () =>
          sendFrame(lab.network(from, "mobula"), "fake0", { ...frame, payload: new Uint8Array(100).fill(7) });
        await waitFor(`the frame on the trunk of ${to}`, async () => {
          await send();
          return heard;
        }, { deadlineMs });
        assertMatch(await hears, new RegExp(`vlan ${FAKE_VLAN}`));
        const [link] = JSON.parse(await onHost(lab, to, "ip -j -s link show fake0", "mobula"));
        assertEquals([link.flags.includes("UP"), link.stats64.rx.packets], [true, 0]);
      } finally {
        await forBoth(`${VSCTL} del-br fake0`);
      }
    },
  );
}

const NEIGHBOURS: readonly (readonly [Spot, string])[] = [
  [ONE, TAGGED.one.seven],
  [{ host: "beta" }, TAGGED.beta.seven],
  [TWO, TAGGED.two.seven],
];

/** Everybody has to be asked for by broadcast again, which goes by the tree. */
async function waitForNeighbours(lab: Lab, what: string): Promise<void> {
  let deaf: Sized[][] = [];
  await waitFor(what, async () => {
    deaf = await Promise.all(NEIGHBOURS.map(async ([spot]) => {
      await onHost(lab, spot.host, "ip neigh flush dev tag7", spot.namespace);
      const others = NEIGHBOURS.filter(([other]) => other !== spot);
      return await notPassed(lab, spot, others.map(([, address]) => ({ address, size: MTU.access })));
    }));
    return deaf.flat().length === 0;
  }, { deadlineMs: NETWORK_DEADLINE_MS }).catch(() => assertEquals(deaf, NEIGHBOURS.map(() => [])));
}

/** Takes away the link that a machine uses towards the tree's root, so that another one has to serve. */
async function cutTree(lab: Lab): Promise<{ readonly host: string; readonly restore: string }> {
  for (const host of MACHINES) {
    const said = await onHost(lab, host, `${APPCTL} rstp/show ovsbr-mobula`);
    const port = /^\s*(mo-t-\d+)\s+Root\s+Forwarding/m.exec(said)?.[1];
    if (port === undefined) continue;
    const address = await onHost(lab, host, `${VSCTL} get Interface ${port} options:remote_ip`);
    // A peer that is not there: the port stays, its other end has gone.
    await onHost(lab, host, `${VSCTL} set Interface ${port} options:remote_ip=169.254.100.100`);
    await waitFor(
      `another root port of ${host}`,
      async () =>
        !new RegExp(`${port}\\s+Root\\s+Forwarding`).test(
          await onHost(lab, host, `${APPCTL} rstp/show ovsbr-mobula`),
        ),
      { deadlineMs: NETWORK_DEADLINE_MS },
    );
    return { host, restore: `${VSCTL} set Interface ${port} options:remote_ip=${address}` };
  }
  throw new Error("Cannot find a root port on any machine; expected a tree");
}
