/** One boot with each kind of thing broken. Needs root and the lab's packages. */
import { BOOT_FAULTS, bootStage, declareBoots } from "./boots.ts";
import { setStage } from "./proof.ts";

declareBoots(setStage(bootStage("boot")), BOOT_FAULTS);
