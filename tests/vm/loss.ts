/** Proof about a bad line: delay and loss on one machine's card. */
import { assertEquals, assertMatch } from "@std/assert";
import { hostAddresses } from "../../lib/address.ts";
import { unreached } from "../lab/probes.ts";
import { expectCode } from "../lab/proof.ts";
import { serveStreams, stream, WHOLE } from "./packets.ts";
import { onHost, type Proof, push, timed, verify, waitForNetwork, writeFleet } from "./stage.ts";

/** What beta sends is late and partly lost: to its peers, and to the one who pushes. */
const BAD_LINE = "delay 50ms loss 5%";

export function declareLoss(proof: Proof): void {
  proof("a bad line, 50 ms late and 5 % lost: verify, push and the network cope", async (lab, pushed) => {
    const { program, client } = pushed;
    await serveStreams(lab, { host: "beta" });
    const tc = (verb: string) =>
      onHost(lab, "beta", `tc qdisc ${verb} dev ens3 root netem ${BAD_LINE}`, "mobula");
    await tc("add");
    try {
      // The first round alone may take longer than the ten seconds that are usual, and lose a packet.
      const judged = await timed("verify on the bad line", () => verify(lab, program, "--wait", "90"));
      expectCode(judged, 0, "verify");
      await writeFleet(lab, client.publicKey, { "10.31.200.9": "scanner.example" });
      const changed = await timed("push of a change", () => push(lab, program));
      expectCode(changed, 0, "the push of a change");
      assertMatch(changed.stdout, /✓ beta \(id 3\): updated/);
      const named = await onHost(lab, "beta", "getent ahostsv4 scanner.example");
      assertMatch(named, /^10\.31\.200\.9 /);
      await waitForNetwork(lab);
      const { access, intrawire } = hostAddresses(lab.host("beta").id);
      assertEquals(await stream(lab, { host: "alpha" }, intrawire), WHOLE);
      assertEquals(await stream(lab, { host: "delta" }, access), WHOLE);
      const dropped = await onHost(lab, "beta", "tc -s qdisc show dev ens3", "mobula");
      assertMatch(dropped, /dropped [1-9]/, "the line was bad");
    } finally {
      await onHost(lab, "beta", "tc qdisc del dev ens3 root", "mobula");
    }
    assertEquals(await unreached(lab.network("alpha"), [hostAddresses(lab.host("beta").id).access]), []);
  });
}
