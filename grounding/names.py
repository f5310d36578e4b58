"""The paper's names for attention methods, by the names of their options in ``conf/attention``."""

METHODS = {
    "grad": "Grad",
    "deconv": "Deconv",
    "lrp": "LRP",
    "cam": "CAM",
    "mwp": "MWP",
    "cmwp": "c-MWP",
    "cmwp_star": "c-MWP*",
    "post_norm": "post-norm",
    "without_norm": "w/o norm",
    "c_grad": "c-Grad",
    "c_deconv": "c-Deconv",
    "c_cam": "c-CAM",
    "d_wta": "d-WTA",
    "grad_at_layer": "Grad at layer",
    "deconv_at_layer": "Deconv at layer",
}
