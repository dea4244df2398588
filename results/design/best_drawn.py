"The design gs-128, of lowest mean rank on validation rows of the study, as wide as the table."
from lgdcnn.config import MODELS, ModelConfig

MODELS['best-drawn'] = ModelConfig('best-drawn', stages=('gru', 'self-attention'))
