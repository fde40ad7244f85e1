"""What the gateway answers itself: the mesh-wide calls, and in words why a call can go nowhere."""
