// matmul: a kernel's weights times its input rows. This version is for many rows, on matrix units of 8 x 8.

#import matmul_coopmat

const SIDE: u32 = 8u;

alias Inputs = coop_mat8x8<f16, A>;
alias Weights = coop_mat8x8<f16, B>;
alias Sums = coop_mat8x8<f32, C>;
