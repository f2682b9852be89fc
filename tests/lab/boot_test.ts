/** One boot with each kind of thing broken, and other ways in which systemd may end what runs. Needs root and the lab's packages. */
import { assertEquals } from "@std/assert";
import { BOOT_FAULTS, bootStage, declareBoots } from "./boots.ts";
import { setStage } from "./proof.ts";
import { ask } from "./snapshot.ts";

const proofs = setStage(bootStage("boot"));

proofs.proof("systemctl isolate and systemctl default end nothing of mobula", async (lab) => {
  const running = () => ask(lab, "alpha", ["sh", "-c", RUNNING]);
  const before = await running();
  for (const words of [["isolate", "multi-user.target"], ["default"]]) {
    await ask(lab, "alpha", ["systemctl", ...words]);
    assertEquals(await running(), before, words.join(" "));
  }
});

/** Each daemon with its process. */
const RUNNING = `systemctl show -p Id -p MainPID -p ActiveState mobula.service mobula-ovsdb.service \\
  mobula-vswitchd.service mobula-paths.service mobula-dnsmasq.service mobula-wireguard.service`;

declareBoots(proofs, BOOT_FAULTS);
