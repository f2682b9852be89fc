/** What of a host's network is the path of SSH, and what is not. */
import { assert, assertEquals } from "@std/assert";
import { bootSteps } from "../../lib/net/boot_steps.ts";
import { networkSteps } from "../../lib/net/steps.ts";
import { wantedNetwork } from "../../lib/net/wanted.ts";
import { blankSeen, fleetOf, inputFor, type Mode, MODES } from "./fixtures.ts";

for (const mode of Object.keys(MODES) as Mode[]) {
  Deno.test(`bootSteps, ${mode}: all from the card to the host, and nothing of the switch, WireGuard or its daemons`, () => {
    const input = inputFor(fleetOf([2, 3, 4]), 2, mode);
    const wanted = wantedNetwork(input);
    const steps = networkSteps(wanted, blankSeen(input));
    const sorted = bootSteps(wanted, steps);
    const { path, wireguard, base, others } = sorted;
    const apart = (all: readonly { readonly title: string }[]) =>
      all.map(({ title }) => title).filter((title) => !title.startsWith("start ")).sort();
    assertEquals(apart([...path, ...wireguard, ...base, ...sorted.switch, ...others]), apart(steps));
    assertEquals(sorted.switch[0]!.title, "start mobula-ovsdb.service, mobula-vswitchd.service");
    // The switch takes in links that are there.
    const isMade = ({ title }: { readonly title: string }) => /^add (link|namespace) /.test(title);
    assertEquals([base.some(isMade), others.some(isMade)], [true, false]);
    // A route inside the switch needs the address of its bridge.
    const places = others.map(({ argv }) =>
      argv[0] === "ovs-appctl" ? "tunnel" : argv.includes("br-und") ? "link" : ""
    );
    assert(
      places.indexOf("tunnel") < 0 || places.lastIndexOf("link") < places.indexOf("tunnel"),
      places.join(" "),
    );
    assertEquals(others.at(-1)!.title, "start mobula-dnsmasq.service");
    for (const { title } of wireguard) assert(/WireGuard|mo-wg-gw|mobula-wireguard/.test(title), title);
    // A route that prefers the gateway's address needs the switch.
    for (const { argv } of wireguard) assert(!argv.includes("src"), argv.join(" "));
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
