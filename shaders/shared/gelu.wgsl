// gelu: the tanh form that the checkpoints call "gelu_new" (Hendrycks & Gimpel 2016, arXiv:1606.08415).
//
// Some drivers build tanh from exponentials and return NaN once those overflow. Beyond 15, tanh is 1 to the last
// bit of an f32 anyway.

fn gelu(x: vec4f) -> vec4f {
    let inner = 0.7978845608028654 * (x + 0.044715 * x * x * x);   // the factor is sqrt(2 / pi)
    return 0.5 * x * (1.0 + tanh(clamp(inner, vec4f(-15.0), vec4f(15.0))));
}
