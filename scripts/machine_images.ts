/**
 * Makes the images of the virtual machines' tests, or finds them in the cache, with packages that are there. Writes the cache.
 */
import { ensureImages } from "../tests/lab/lab.ts";
import { STAGE } from "../tests/vm/stage.ts";

await ensureImages(STAGE.hosts, STAGE.kind);
