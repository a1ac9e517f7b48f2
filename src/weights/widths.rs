//! The widths of a block's fused matrices and of its activations, which follow from the configuration and from the
//! padding that kernels need: each head takes whole octets of elements.

use gptj_checkpoint::Config;

/// The padded sizes of a configuration, as kernels use them.
pub trait BlockWidths {
    /// Elements of one head in memory.
    fn head_width(&self) -> usize;

    /// Elements of all heads.
    fn heads_width(&self) -> usize;

    /// Features of a block's first matrix, \[q_proj; k_proj; v_proj; fc_in\].
    fn block_in_features(&self) -> usize;

    /// Inputs of a block's second matrix, \[out_proj | fc_out\].
    fn block_out_inputs(&self) -> usize;

    /// A row of activations: attention's results, the MLP's hidden layer, and q.
    fn activation_width(&self) -> usize;
}

impl BlockWidths for Config {
    fn head_width(&self) -> usize {
        self.head_dim().next_multiple_of(8)
    }

    fn heads_width(&self) -> usize {
        self.n_head * self.head_width()
    }

    fn block_in_features(&self) -> usize {
        3 * self.heads_width() + self.n_inner
    }

    fn block_out_inputs(&self) -> usize {
        self.heads_width() + self.n_inner.next_multiple_of(8)
    }

    fn activation_width(&self) -> usize {
        self.block_out_inputs() + self.heads_width()
    }
}
