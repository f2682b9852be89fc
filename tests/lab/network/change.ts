/**
 * Proof that a push to a fleet that has changed does exactly that change, and disturbs nobody else.
 */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { hostAddresses } from "../../../lib/address.ts";
import type { Lab, LabHost } from "../lab.ts";
import { allInnerAddresses, resolveAt, startPing, unreached } from "../probes.ts";
import { must } from "../process.ts";
import { expectCode, mobula } from "../proof.ts";
import { type Snapshot, snapshot } from "../snapshot.ts";
import { CLIENT, names, type Proof, readPubkeys, writeFleet } from "./fleet.ts";

export function declareChange(proof: Proof): void {
  proof(
    "change: one host more, one less, another name, another client: exactly that changes",
    async (lab, { program }) => {
      const before = await snapshot(lab, "alpha");
      const oldKeys = await readPubkeys(lab);
      const { seventh, newClient } = await changeFleet(lab, program);
      const pings = await Promise.all(
        [hostAddresses(3).access, hostAddresses(3).intrawire].map((address) =>
          startPing(lab, lab.network("alpha"), address)
        ),
      );
      const pushed = await mobula(lab, { executable: program }, "push");
      expectCode(pushed, 0, "the push of the changed fleet");
      for (const ping of pings) {
        const { sent, lost } = await ping.stop();
        assertEquals(lost, [], `of ${sent} pings from alpha to beta`);
      }
      assertMatch(pushed.stdout, /✓ eta \(id 8\): installed, executable sent, rebooted/);
      for (const name of ["alpha", "beta", "delta", "epsilon", "zeta"]) {
        assertMatch(pushed.stdout, new RegExp(`✓ ${name} \\(id \\d+\\): updated, (?!.*(sent|rebooted))`));
      }
      const after = await snapshot(lab, "alpha");
      assertOnlyPeersChanged(before, after, {
        removed: [oldKeys[lab.host("gamma").address]!],
        added: [(await readPubkeys(lab))[seventh.address]!, newClient],
      });
      await checkChangedFleet(lab);
    },
  );
}

/** gamma leaves, eta comes, the printer moves, and the client gets another key. */
async function changeFleet(lab: Lab, program: string): Promise<{ seventh: LabHost; newClient: string }> {
  const seventh = await lab.addHost({ name: "eta", address: "198.51.100.8", suite: "trixie", image: "bare" });
  const newClient = JSON.parse(await must([program, "keys", "generate", "--json"])).public_key;
  await writeFleet(lab, newClient, {
    hosts: names(lab).filter((name) => name !== "gamma"),
    extraHosts: { "10.31.200.9": "printer.example" },
  });
  return { seventh, newClient };
}

function assertOnlyPeersChanged(
  before: Snapshot,
  after: Snapshot,
  { removed, added }: { readonly removed: readonly string[]; readonly added: readonly string[] },
): void {
  assertEquals(after.publicKey, before.publicKey);
  assertEquals(after.mainPids, before.mainPids, "no daemon is restarted");
  assertEquals(after.firewall, before.firewall, "the firewall is not loaded again");
  assertEquals(after.links, before.links, "no link is moved or made anew");
  const [old, now] = [new Set(before.peers.keys()), new Set(after.peers.keys())];
  const clients = [...old].filter((key) => before.peers.get(key)!.allowedIps === `${CLIENT}/32`);
  assertEquals([...old].filter((key) => !now.has(key)).sort(), [...removed, ...clients].sort());
  assertEquals([...now].filter((key) => !old.has(key)).sort(), [...added].sort());
  for (const key of [...old].filter((key) => now.has(key))) {
    const [was, is] = [before.peers.get(key)!, after.peers.get(key)!];
    assertEquals({ ...is, latestHandshake: 0 }, { ...was, latestHandshake: 0 });
    assert(is.latestHandshake >= was.latestHandshake && is.latestHandshake > 0, "no session is thrown away");
  }
  const ports = new Map(before.switchPorts);
  for (const name of ["mo-t-4", "mo-path-4"]) ports.delete(name);
  const kept = new Map([...after.switchPorts].filter(([name]) => !/^mo-(t|path)-8$/.test(name)));
  assertEquals(kept, ports, "the other ports of the switch are the same ones");
  assertEquals(after.switchPorts.size, ports.size + 2);
}

async function checkChangedFleet(lab: Lab): Promise<void> {
  const members = lab.state.hosts.filter(({ name }) => name !== "gamma");
  for (const { name, id } of members) {
    const place = lab.network(name);
    assertEquals(await unreached(place, allInnerAddresses(members)), [], name);
    assertEquals(
      await unreached(place, [hostAddresses(4).intrawire]),
      [hostAddresses(4).intrawire],
      "gamma is out",
    );
    assertEquals(
      await resolveAt(place, hostAddresses(id).gateway, ["eta", "gamma", "printer.example"]),
      { eta: hostAddresses(8).access, gamma: "", "printer.example": "10.31.200.9" },
    );
  }
}
