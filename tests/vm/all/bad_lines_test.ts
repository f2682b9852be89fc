/**
 * Lines that are late and lose packets, between machines whose kernels carry: push, verify, the network, and the paths' hold-down. Needs
 * root and QEMU; `deno task test:vm --all`.
 */
import { setStage } from "../../lab/proof.ts";
import { declareLoss } from "../loss.ts";
import { type Pushed, STAGE } from "../stage.ts";
import { declareThinPath } from "../thin_path.ts";

const { proof } = setStage<Pushed>({ ...STAGE, name: "bad-lines-vm" });

declareLoss(proof);
declareThinPath(proof);
