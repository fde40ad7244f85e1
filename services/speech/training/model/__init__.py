"""Networks that classify sound: log-mel in front, a dense, convolutional or recurrent body behind."""
