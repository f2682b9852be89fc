/** Proofs about frames with VLAN tags between guests behind different hosts, with a tagged bridge and without one. */
import { assertEquals } from "@std/assert";
import { capture, type Frame, sendFrame } from "../lab/capture.ts";
import { unreached } from "../lab/probes.ts";
import { waitFor } from "../lab/wait.ts";
import { BLUE_TWO, ensureGuests, ONE, RED_ONE, TAGGED, TWO } from "./guests.ts";
import { notPassed } from "./packets.ts";
import { CONTAINER, MTU, type Proof } from "./stage.ts";

/** IEEE 802, local experimental EtherType 1. */
const EXPERIMENTAL = 0x88b5;
const BROADCAST = "ff:ff:ff:ff:ff:ff";

export function declareVlans(proof: Proof): void {
  proof("VLAN: tagged frames of full size cross, through a tagged bridge and without one", async (lab) => {
    await ensureGuests(lab);
    const [one, two, beta] = [TAGGED.one, TAGGED.two, TAGGED.beta];
    assertEquals(
      await notPassed(lab, ONE, [
        ...[two.seven, beta.seven, two.eight, beta.eight].map((address) => ({ address, size: MTU.access })),
        // Nobody else here has an address that an access port of this machine could ask for.
        { address: TAGGED.redTwo, size: MTU.access },
      ]),
      [],
    );
    assertEquals(
      await notPassed(
        lab,
        { host: "beta" },
        [one.seven, two.seven].map((address) => ({
          address,
          size: MTU.access,
        })),
      ),
      [],
    );
  });

  proof("VLAN: access ports of one VLAN meet across hosts, those of two VLANs do not", async (lab) => {
    await ensureGuests(lab);
    assertEquals(await notPassed(lab, RED_ONE, [{ address: TAGGED.redTwo, size: MTU.access }]), []);
    assertEquals(await notPassed(lab, ONE, [{ address: TAGGED.blueTwo.eight, size: MTU.access }]), []);
    const red = lab.network(RED_ONE.host, RED_ONE.namespace);
    assertEquals(await unreached(red, [TAGGED.blueTwo.likeRed]), [TAGGED.blueTwo.likeRed]);
    const blue = lab.network(BLUE_TWO.host, BLUE_TWO.namespace);
    const sevens = [TAGGED.redOne, TAGGED.redTwo, TAGGED.one.seven];
    assertEquals(await unreached(blue, sevens), [...sevens].sort());
  });

  proof("VLAN: a tagged frame of full size reaches a host in userspace mode", async (lab) => {
    await ensureGuests(lab);
    const heard = await capture(lab, lab.network(CONTAINER), "veth_fac0", `ether src ${ONE.mac} and vlan`);
    const frame: Frame = {
      to: BROADCAST,
      from: ONE.mac,
      type: EXPERIMENTAL,
      payload: new Uint8Array(MTU.access).fill(7),
      vlan: 7,
    };
    await sendFrame(lab.network(ONE.host, ONE.namespace), "eth0", frame);
    const isOurs = ({ type }: Frame) => type === EXPERIMENTAL;
    await waitFor("the tagged frame", () => heard.frames().some(isOurs));
    assertEquals((await heard.stop()).filter(isOurs), [frame]);
  });

  proof("QinQ: an outer and an inner tag cross, the payload four bytes smaller", async (lab) => {
    await ensureGuests(lab);
    const size = MTU.access - 4;
    const others = [TAGGED.two.inner, TAGGED.beta.inner].map((address) => ({ address, size }));
    assertEquals(await notPassed(lab, ONE, others), []);
    assertEquals(await notPassed(lab, TWO, [{ address: TAGGED.beta.inner, size }]), []);
  });
}
