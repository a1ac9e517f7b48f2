// Compiles WGSL with Tint and fails on any word that it has to say, warnings included.
//
// The argument is a folder with shaders and a kernels.json that lists them: for each its file, the
// WebGPU features it needs, its entry points, and a value for each override constant. A file is
// compiled on a device with the features it needs and no others, so that one which claims to do
// without f16 must do without. Then a pipeline is made of every entry point, which is when the
// constants get their values and the limits are checked: eight storage buffers, 256 invocations,
// 16 KiB of workgroup memory.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { create } from 'webgpu';

const folder = process.argv[2];
const kernels = JSON.parse(readFileSync(join(folder, 'kernels.json'), 'utf8'));
const gpu = create(['backend=null']);

const devices = new Map();
async function deviceWith(features) {
  const key = [...features].sort().join();
  if (!devices.has(key)) {
    const adapter = await gpu.requestAdapter();
    devices.set(key, await adapter.requestDevice({ requiredFeatures: features }));
  }
  return devices.get(key);
}

let modules = 0;
let pipelines = 0;
let failures = 0;
function fail(message) {
  console.log(message);
  failures += 1;
}

for (const { file, features, entry_points, constants } of kernels) {
  // wgpu's own extension, which no browser has.
  if (features.includes('cooperative-matrix')) continue;
  const code = readFileSync(join(folder, file), 'utf8');
  const device = await deviceWith(features);

  // A module that fails is an error of the device as well; its messages are the better account.
  device.pushErrorScope('validation');
  const module = device.createShaderModule({ label: file, code });
  const { messages } = await module.getCompilationInfo();
  const error = await device.popErrorScope();
  for (const { type, lineNum, linePos, message } of messages) {
    const line = code.split('\n')[lineNum - 1] ?? '';
    fail(`${file}:${lineNum}:${linePos}: ${type}: ${message}\n  ${line.trim()}`);
  }
  if (error) continue;
  modules += 1;

  // WebGPU refuses values for constants that a module does not have.
  const known = Object.entries(constants).filter(([name]) =>
    new RegExp(`\\boverride\\s+${name}\\b`).test(code));
  for (const entryPoint of entry_points) {
    const compute = { module, entryPoint, constants: Object.fromEntries(known) };
    try {
      await device.createComputePipelineAsync({ layout: 'auto', compute });
      pipelines += 1;
    } catch (error) {
      fail(`${file}: ${entryPoint}: ${error.message.trim()}`);
    }
  }
}

if (kernels.length === 0) fail('kernels.json lists no shader');
console.log(`${modules} of ${kernels.length} modules compiled, ${pipelines} pipelines created, ` +
  `${failures} complaints`);
// Dawn keeps the process alive as long as its devices are.
process.exit(failures === 0 ? 0 : 1);
