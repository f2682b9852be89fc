/**
 * Makes the images of the virtual machines' tests, or finds them in the cache. Installs packages, writes the cache.
 */
import { ensureImages } from "../tests/lab/lab.ts";
import { ensurePackages, MACHINE_PACKAGES } from "../tests/lab/packages.ts";
import { VM_PACKAGES } from "../tests/vm/qemu.ts";
import { STAGE } from "../tests/vm/stage.ts";

await ensurePackages([...MACHINE_PACKAGES, ...VM_PACKAGES]);
await ensureImages(STAGE.hosts, STAGE.kind);
