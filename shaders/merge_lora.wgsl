// merge_lora: weight[feature, input] += the sum over k of b[feature, k] * a[k, input]
//
// Adds LoRA adapters to an uploaded matrix, once. The matrix is in panels: see shared/weights_f16.wgsl. A column of
// workgroups takes a panel, each of them some of its groups of eight inputs, two at a time; a lane takes one feature's
// octet.

#import half
#import widths

override IN_GROUPS: u32;   // inputs in groups of eight
override RANK: u32;
override PANEL: u32;       // the launch's first panel in this segment
override B_PANEL: u32;     // its first panel in b

struct Halves {
    low: Half4,
    high: Half4,
}

@group(0) @binding(0) var<storage, read> b: array<f32>;                 // (features of whole panels, RANK)
@group(0) @binding(1) var<storage, read> a: array<vec4f>;               // (RANK, inputs)
@group(0) @binding(2) var<storage, read_write> weight: array<Halves>;   // (panels, IN_GROUPS, 32) octets
@group(0) @binding(3) var<storage, read_write> overflow: atomic<u32>;   // (1): 1 if f16 cannot hold a sum

const PANEL_FEATURES: u32 = 32u;

@compute @workgroup_size(64)
fn merge_lora(
    @builtin(workgroup_id) workgroup: vec3u,
    @builtin(num_workgroups) grid: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let octet = lane % PANEL_FEATURES;
    // Octet 8 * j + i is that of feature 4 * i + j.
    let feature = 4u * (octet % 8u) + octet / 8u;
    let row = ((B_PANEL + workgroup.x) * PANEL_FEATURES + feature) * padded(RANK);
    for (var group = 2u * workgroup.y + lane / PANEL_FEATURES; group < IN_GROUPS; group += 2u * grid.y) {
        var low = vec4f();
        var high = vec4f();
        for (var k = 0u; k < RANK; k++) {
            let quad = 2u * (k * IN_GROUPS + group);
            low += b[row + k] * a[quad];
            high += b[row + k] * a[quad + 1u];
        }
        let index = ((PANEL + workgroup.x) * IN_GROUPS + group) * PANEL_FEATURES + octet;
        let halves = weight[index];
        low += unpack_half4(halves.low);
        high += unpack_half4(halves.high);
        if overflows(low) || overflows(high) {
            atomicStore(&overflow, 1u);
        }
        weight[index] = Halves(pack_half4(low), pack_half4(high));
    }
}

// Whether f16 cannot hold one of the sums. Compares bits, since compilers may assume that there is no NaN: those of
// 65520, the smallest number that rounds to infinity, are below those of all larger numbers, infinity and NaN.
fn overflows(sums: vec4f) -> bool {
    return any((bitcast<vec4u>(sums) & vec4u(0x7fffffffu)) >= vec4u(0x477ff000u));
}
