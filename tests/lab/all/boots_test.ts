/** Boots with everything else broken. Needs root and the lab's packages. */
import { bootStage, declareBoots, MORE_BOOT_FAULTS } from "../boots.ts";
import { setStage } from "../proof.ts";

declareBoots(setStage(bootStage("boots")), MORE_BOOT_FAULTS);
