/**
 * Proof about Open vSwitch's known trouble: three hosts with a full mesh, RSTP, and a fake bridge, i.e. an internal port with a VLAN,
 * on each (its issue tracker's number 122 tells of fake bridges that do not hear each other, over tunnels with IPsec and OVS 2.6).
 */
import { assert, assertEquals } from "@std/assert";
import type { Lab } from "../lab/lab.ts";
import { waitFor } from "../lab/wait.ts";
import { notPassed } from "./packets.ts";
import { CONTAINER, MTU, NAMES, NETWORK_DEADLINE_MS, onHost, type Proof, same } from "./stage.ts";

const VSCTL = "ovs-vsctl --db=unix:/run/mobula/ovs/db.sock";
const APPCTL = "ovs-appctl -t /run/mobula/ovs/vswitchd.ctl";
const VLAN = 77;

function addressOf(lab: Lab, name: string): string {
  return `10.76.0.${lab.host(name).id}`;
}

function scopeOf(name: string): string {
  return name === CONTAINER ? "mobula-sw" : "mobula";
}

export function declareTree(proof: Proof): void {
  proof(
    "tree: fake bridges with a VLAN on all switches hear each other, also after the tree has changed",
    async (lab) => {
      await Promise.all(NAMES.map((name) =>
        onHost(
          lab,
          name,
          `${VSCTL} add-br fake0 ovsbr-mobula ${VLAN}
ip -n ${scopeOf(name)} address add ${addressOf(lab, name)}/24 dev fake0
ip -n ${scopeOf(name)} link set fake0 mtu ${MTU.access} up`,
        )
      ));
      try {
        await waitForBridges(lab, "the fake bridges");
        const changed = await cutTree(lab);
        try {
          await waitForBridges(lab, "the fake bridges, by another way");
        } finally {
          await onHost(lab, changed.host, changed.restore);
        }
      } finally {
        await Promise.all(NAMES.map((name) => onHost(lab, name, `${VSCTL} del-br fake0`)));
      }
      for (const name of NAMES) {
        assert(!(await onHost(lab, name, `${VSCTL} list-ports ovsbr-mobula`)).includes("fake0"), name);
      }
    },
  );
}

/** A port that is new to the tree waits before it forwards. */
async function waitForBridges(lab: Lab, what: string): Promise<void> {
  let deaf: Record<string, string[]> = {};
  const hear = async () => Object.values(deaf = await deafBridges(lab)).every((list) => list.length === 0);
  await waitFor(what, hear, { deadlineMs: NETWORK_DEADLINE_MS }).catch(() => assertEquals(deaf, same([])));
}

/** For each host those whose fake bridges do not get a full-size packet from it and back. */
async function deafBridges(lab: Lab): Promise<Record<string, string[]>> {
  const entries = await Promise.all(NAMES.map(async (host) => {
    const others = NAMES.filter((name) => name !== host);
    const packets = others.map((name) => ({ address: addressOf(lab, name), size: MTU.access }));
    const lost = await notPassed(lab, { host, namespace: scopeOf(host) }, packets);
    return [host, lost.map(({ address }) => address)] as const;
  }));
  return Object.fromEntries(entries);
}

/** Takes away the link that beta uses towards the tree's root, so that another one has to serve. */
async function cutTree(lab: Lab): Promise<{ readonly host: string; readonly restore: string }> {
  for (const host of ["beta", "gamma", "alpha"]) {
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
