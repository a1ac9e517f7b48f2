// matmul: a kernel's weights times its input rows. This version is for many rows, on matrix units of 16 x 16.

#import matmul_coopmat

const SIDE: u32 = 16u;

alias Inputs = coop_mat16x16<f16, A>;
alias Weights = coop_mat16x16<f16, B>;
alias Sums = coop_mat16x16<f32, C>;
