/** What of a host's network is the path of SSH, and what is not. */
import { assert, assertEquals } from "@std/assert";
import { splitSshPath } from "../../lib/net/ssh_path.ts";
import { networkSteps } from "../../lib/net/steps.ts";
import { wantedNetwork } from "../../lib/net/wanted.ts";
import { blankSeen, fleetOf, inputFor, type Mode, MODES } from "./fixtures.ts";

for (const mode of Object.keys(MODES) as Mode[]) {
  Deno.test(`splitSshPath, ${mode}: all from the card to the host, and nothing of the switch, WireGuard or its daemons`, () => {
    const input = inputFor(fleetOf([2, 3, 4]), 2, mode);
    const wanted = wantedNetwork(input);
    const steps = networkSteps(wanted, blankSeen(input));
    const { path, rest } = splitSshPath(wanted, steps);
    const others = (all: readonly { readonly title: string }[]) =>
      all.map(({ title }) => title).filter((title) => !title.startsWith("start ")).sort();
    assertEquals(others([...path, ...rest]), others(steps));
    const starts = rest.map(({ title }) => title).filter((title) => title.startsWith("start "));
    assert(!starts[0]!.includes("dnsmasq"), starts[0]);
    assertEquals(rest.at(-1)!.title, "start mobula-dnsmasq.service");
    const titles = path.map(({ title }) => title);
    for (
      const needed of [
        "add namespace mobula",
        "load the gateway's firewall",
        "add bridge mo-ext-gw in mobula",
        "add link mo-dir-hs - mo-dir-gw",
        "move enp1s0 into the gateway",
        "set route default to mo-ext-gw in mobula",
        "set route default to mo-dir-hs",
      ]
    ) assert(titles.includes(needed), `${needed} is missing in\n${titles.join("\n")}`);
    for (const title of titles) {
      assert(!/WireGuard|mo-wg|switch|ovsbr|mo-und|start |veth_fac0|checksum/.test(title), title);
    }
  });
}
